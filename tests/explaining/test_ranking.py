"""What stands first: a fault before rounding, unless rounding is far more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accel.questions.explain import explain
from accel.values import Model
from tests.explaining.planted import changed, scaled


def test_a_fault_stands_before_what_is_only_rounded(
    int8: Path, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """Every int8 graph rounds; a scale that is stale mends less than that here, and is the news."""
    first, second, *_ = explain(
        changed(int8, tmp_path, scaled("r1__scale", 8)), model.path, feeds
    ).suspects
    assert (first.value, first.kind) == ("r1", "wrong or stale scale")
    assert not second.kind
    assert second.recovered > first.recovered


def test_a_fault_that_costs_next_to_nothing_does_not(
    int8: Path, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """A range four times too wide, where rounding elsewhere mends seven times as much."""
    found = explain(changed(int8, tmp_path, scaled("r1__scale", 4)), model.path, feeds).suspects
    kinds = [s.kind for s in found]
    assert not kinds[0]
    assert found[0].recovered > 4 * found[kinds.index("wrong or stale scale")].recovered
