"""How far outputs are off, and where that grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel.explaining import mended, running
from accel.questions.explain import explain
from accel.values import Model
from tests.explaining.planted import changed, scaled


def test_growth_names_where_the_error_jumps(
    int8: Path, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """In the order of the graph, up to the outputs."""
    found = explain(changed(int8, tmp_path, scaled("r0__scale", 1 / 6)), model.path, feeds)
    assert [g.value for g in found.growth][:2] == ["p0", "p1"]
    assert found.growth[1].sqnr_db < found.growth[0].sqnr_db - 6


def test_growth_is_the_same_a_value_at_a_time(
    int8: Path, model: Model, feeds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many values a run holds changes what it needs, not what is found."""
    broken = changed(int8, tmp_path, scaled("r0__scale", 1 / 6))
    whole = explain(broken, model.path, feeds).growth
    monkeypatch.setattr(mended, "AT_ONCE", 1)
    assert explain(broken, model.path, feeds).growth == whole
    assert len(whole) > 1


def test_an_error_in_small_channels_is_not_drowned_by_large_ones() -> None:
    """Scores of hundreds beside places in [0, 1]: a place that is off by half outweighs rounded scores."""
    draw = np.random.default_rng(5)
    want = np.concatenate([draw.normal(0, 300, (64, 8)), draw.random((64, 2))], axis=1)
    rounded, misplaced = want.copy(), want.copy()
    rounded[:, :8] += draw.normal(0, 3, (64, 8))
    misplaced[:, 8:] *= 0.5
    assert running.error([[misplaced]], [[want]]) > 10 * running.error([[rounded]], [[want]])


def test_a_channel_that_is_nothing_but_noise_does_not_decide() -> None:
    """A class that never fires: twice its 1e-6 is no error."""
    want = np.ones((16, 4), np.float32)
    want[:, 0] = 1e-6
    got = want.copy()
    got[:, 0] *= 2
    assert running.error([[got]], [[want]]) < 1e-6


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 7), (1,), ()])
def test_the_error_is_relative_whatever_the_shape(shape: tuple[int, ...]) -> None:
    """A tenth more of everything is 0.01; sequences of two lengths have channels behind them."""
    want = np.full(shape, 2.0, np.float32)
    assert running.error([[1.1 * want]], [[want]]) == pytest.approx(0.01, rel=1e-3)
    longer = np.full((3, 9, 7), 2.0, np.float32)
    both = [[want], [longer]] if len(shape) == 3 else [[want]]
    assert running.error([[1.1 * a[0]] for a in both], both) == pytest.approx(0.01, rel=1e-3)
