"""Tails that are compared, and the order of finalists for whom they or their sizes count."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel import finals, search, stats, tails
from accel.values import Candidate, Measurement, Model, Plan

MODEL = Model(Path("m.onnx"), "d", (), ())
Make = Callable[..., Measurement]


@pytest.fixture
def timed(tmp_path: Path) -> Make:
    """timed(level, slow, rounds) -> 4 epochs of rounds of 20 calls, every 20th of which takes `slow`."""
    turn = itertools.count()

    def make(
        level: float = 1.0, slow: float = 3.0, rounds: int = 15, first: int = 0
    ) -> Measurement:
        number = next(turn)
        draw, path = np.random.default_rng(number), tmp_path / f"{number}.npz"
        shape = (4, rounds, 20)
        seconds = level * np.exp(np.abs(draw.normal(0, 0.02, shape)))
        seconds[..., 0] *= slow
        epoch, at, _ = np.indices(shape)
        request = np.zeros(shape, np.int64)
        columns = {"request": request, "epoch": epoch + first, "round": at, "seconds": seconds}
        np.savez(path, **{name: array.ravel() for name, array in columns.items()})
        return Measurement(f"arm {number}", path, ("all",), (1.0,), 0, 0, 100, 1, 0)

    return make


def final(name: str, run: Measurement, portable: bool = False, **more: Any) -> Candidate:
    plan = Plan("openvino", MODEL, Path(name), portable=portable)
    row = Candidate(name, "onnx", "fp32", "openvino", status="measured", plan=plan, measurement=run)
    return dataclasses.replace(row, objective_s=stats.objective(run), **more)


def ranked(objective: str, *rows: Candidate) -> list[str]:
    found = search.rank(rows, finals.cost(objective, rows), finals.tie(objective, rows))
    return [c.name for c in found]


def test_a_ratio_of_tails_sees_what_medians_do_not(timed: Make) -> None:
    """One call in twenty takes twice as long: the medians tie, and the tails are apart by 2."""
    calm, rough = timed(slow=3.0), timed(slow=6.0)
    found = tails.ratio(rough, calm)
    assert stats.tie(rough, calm)
    assert not tails.tie(rough, calm)
    assert found.point == pytest.approx(2, rel=0.1)
    assert found.low < found.point < found.high
    assert tails.ratio(calm, rough).point == pytest.approx(1 / found.point)


def test_equal_tails_tie(timed: Make) -> None:
    """Of ten pairs with the same tail, nearly all are told to be inside the noise."""
    assert sum(tails.tie(timed(), timed()) for _ in range(10)) >= 8


def test_tails_of_different_counts_are_one_quantile(timed: Make) -> None:
    """Where one arm of those compared carries no p99, the ratio is of p90, which the slow calls spare."""
    calm, rough, short = timed(slow=3.0), timed(slow=6.0), timed(rounds=5)
    assert tails.ratio(rough, calm, (short,)).point == pytest.approx(1, rel=0.1)
    with pytest.raises(ValueError, match="arm 1 and arm 3 share no round"):
        tails.ratio(rough, timed(first=9))


def test_the_tail_is_ranked_by_one_quantile(timed: Make) -> None:
    """A quicker arm that carries a p99 does not lose it to a slower one's p90."""
    quick, slow = final("quick", timed(1.0)), final("slow", timed(1.5, rounds=5))
    assert stats.tail_seconds(timed(1.0)) > stats.tail_seconds(timed(1.5, rounds=5))
    assert ranked("tail", slow, quick) == ["quick", "slow"]


def test_a_doubled_tail_is_no_tie_under_tail(timed: Make) -> None:
    """A portable graph of the same median does not win with it; under latency it does."""
    calm, rough = final("calm", timed()), final("rough", timed(slow=6.0), portable=True)
    assert ranked("tail", rough, calm) == ["calm", "rough"]
    assert ranked("latency", rough, calm) == ["rough", "calm"]


def test_the_smallest_wins_under_size(timed: Make) -> None:
    """However their latencies tie, a larger portable graph comes second; one hardly larger wins."""
    small = final("small", timed(), size_bytes=1_000_000)
    big = final("big", timed(), portable=True, size_bytes=2_000_000)
    same = final("same", timed(2.0), portable=True, size_bytes=1_000_100)
    assert ranked("size", big, small) == ["small", "big"]
    assert ranked("size", big, small, same) == ["same", "small", "big"]
