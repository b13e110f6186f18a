"""Timings: quantiles, sums and ratios by hand, against scipy, and their coverage on seeded data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from accel import stats
from accel.values import Measurement

Rows = Sequence[tuple[int, int, int, float]]  # request, epoch, round, seconds
Make = Callable[..., Measurement]


@pytest.fixture
def measured(tmp_path: Path) -> Make:
    """measured(rows, groups, weights) -> a Measurement whose samples lie on disk."""
    turn = itertools.count()

    def make(
        rows: Any, groups: Sequence[str] = ("all",), weights: Sequence[float] = (1.0,)
    ) -> Measurement:
        table = np.asarray(rows, np.float64).reshape(-1, 4)
        path = tmp_path / f"{next(turn)}.npz"
        names = ("request", "epoch", "round")
        whole = {n: table[:, i].astype(np.int64) for i, n in enumerate(names)}
        np.savez(path, seconds=table[:, 3], **whole)
        return Measurement("arm", path, tuple(groups), tuple(weights), 0.1, 0.01, 1, 1, 0)

    return make


def noisy(factor: float, draw: np.random.Generator, epochs: int = 3, rounds: int = 10) -> Any:
    """Rows whose every epoch has a level of its own, with skewed noise and a slow mode on top."""
    rows = []
    for epoch in range(epochs):
        level = factor * 1e-3 * math.exp(draw.normal(0, 0.02))
        for number in range(rounds):
            seconds = level * np.exp(np.abs(draw.normal(0, 0.02, 5)))
            seconds[draw.random(5) < 0.1] *= 3
            rows += [(0, epoch, number, s) for s in seconds]
    return rows


@pytest.mark.parametrize(("q", "least"), [(0.5, 20), (0.9, 100), (0.99, 1000), (0.999, 10000)])
def test_a_quantile_needs_ten_samples_beyond_it(q: float, least: int) -> None:
    """One sample fewer than carries it, and there is no number."""
    assert stats.quantile_if_carried(np.ones(least), q) == 1.0
    assert stats.quantile_if_carried(np.ones(least - 1), q) is None


def test_quantiles_by_hand_and_by_scipy() -> None:
    """Linear between order statistics, as in R's type 7."""
    assert stats.quantile_if_carried(np.arange(1, 1001), 0.99) == pytest.approx(990.01)
    draw = np.random.default_rng(0).lognormal(size=1500)
    for q in (0.5, 0.9, 0.99):
        theirs = scipy.stats.mstats.mquantiles(draw, q, alphap=1, betap=1)[0]
        assert stats.quantile_if_carried(draw, q) == pytest.approx(theirs)


def test_no_samples_carry_no_quantile() -> None:
    """Empty and single-sample input give None; NaN gives NaN, never a number."""
    assert stats.quantile_if_carried([], 0.5) is None
    assert stats.quantile_if_carried([1.0], 0.5) is None
    assert math.isnan(stats.quantile_if_carried([math.nan, *np.ones(50)], 0.5) or 0)


def test_sums_over_requests_by_hand(measured: Make) -> None:
    """Median, minimum and mean of each request, weighted by its share of the traffic."""
    first = [(0, 0, 0, s) for s in (1.0, 2.0, 6.0)]
    second = [(1, 0, 0, s) for s in (10.0, 20.0, 60.0, 30.0)]
    found = measured([*first, *second], ("a", "b"), (0.75, 0.25))
    assert stats.objective(found) == pytest.approx(0.75 * 2 + 0.25 * 25)
    assert stats.floor_seconds(found) == pytest.approx(0.75 * 1 + 0.25 * 10)
    assert stats.mean_seconds(found) == pytest.approx(0.75 * 3 + 0.25 * 30)


def test_a_group_pools_the_calls_of_its_requests(measured: Make) -> None:
    """Medians of a group are over all of its calls; p99 is there only where they carry it."""
    rows = [(r, 0, i // 10, float(100 * r + i)) for r in (0, 1) for i in range(500)]
    found = measured([*rows, (2, 0, 0, 7.0)], ("pair", "pair", "lone"), (0.4, 0.4, 0.2))
    pooled = np.r_[np.arange(500), 100 + np.arange(500)]
    assert stats.group_medians(found) == {"pair": np.median(pooled), "lone": 7.0}
    assert stats.group_quantile(found, "pair", 0.99) == pytest.approx(np.quantile(pooled, 0.99))
    assert stats.group_quantile(found, "lone", 0.99) is None
    with pytest.raises(ValueError, match=r"no request group 'pear'; there are \['lone', 'pair'\]"):
        stats.group_quantile(found, "pear", 0.5)


def test_the_tail_is_p99_or_p90_of_each_group(measured: Make) -> None:
    """A group of 1000 calls counts with its p99, one of 100 with its p90, each by its weight."""
    many = [(0, 0, 0, float(i)) for i in range(1, 1001)]
    few = [(1, 0, 0, float(i)) for i in range(1, 101)]
    found = measured([*many, *few], ("many", "few"), (0.5, 0.5))
    assert stats.tail_seconds(found) == pytest.approx(0.5 * 990.01 + 0.5 * 90.1)


def test_tails_that_are_compared_are_one_quantile(measured: Make) -> None:
    """Of arms with 1000 calls and with 999, both count with p90; alone, the first has its p99."""
    many = measured([(0, 0, 0, float(i)) for i in range(1, 1001)])
    fewer = measured([(0, 0, 0, float(i)) for i in range(1, 1000)])
    assert stats.tail_seconds(many) == pytest.approx(990.01)
    assert stats.tail_seconds(many, (many, fewer)) == pytest.approx(900.1)
    assert stats.tail_seconds(fewer, (many, fewer)) == pytest.approx(899.2)
    assert stats.tail_quantiles((many, many)) == {"all": 0.99}


def test_a_ratio_by_hand(measured: Make) -> None:
    """The mean over epochs of the median over rounds of the logarithm, rounds paired."""
    slow = {(0, 0): 2.0, (0, 1): 4.0, (0, 2): 8.0, (1, 0): 16.0}
    a = measured([(0, e, r, s) for (e, r), s in slow.items()])
    b = measured([(0, e, r, 1.0) for e, r in slow])
    found = stats.ratio(a, b)
    assert found.point == pytest.approx(math.exp((math.log(4) + math.log(16)) / 2))
    assert found.low < found.point < found.high


def test_drift_that_both_arms_share_cancels(measured: Make) -> None:
    """Rounds are paired: a machine that slows down tenfold leaves an exact ratio exact."""
    drift = [(0, e, r, 1e-3 * (1 + r + 10 * e)) for e in range(3) for r in range(5)]
    half = [(q, e, r, s / 2) for q, e, r, s in drift]
    assert stats.ratio(measured(drift), measured(half)) == pytest.approx((2, 2, 2))


def test_the_ratio_of_a_group_sees_that_group_alone(measured: Make) -> None:
    """On the whole it is the ratio of the weighted sums."""
    cells = [(e, r) for e in range(2) for r in range(3)]
    a = measured([(q, e, r, 4.0) for e, r in cells for q in (0, 1)], ("x", "y"), (0.5, 0.5))
    b = measured([(q, e, r, 1.0 + q) for e, r in cells for q in (0, 1)], ("x", "y"), (0.5, 0.5))
    points = [stats.ratio(a, b, group).point for group in ("x", "y", None)]
    assert points == pytest.approx([4, 2, 4 / 1.5])
    with pytest.raises(ValueError, match="no request group 'z'"):
        stats.ratio(a, b, "z")


def test_ratios_mirror(measured: Make) -> None:
    """The other way round it is the inverse, with the same verdict of a tie."""
    draw = np.random.default_rng(3)
    a, b = measured(noisy(1.0, draw)), measured(noisy(1.3, draw))
    there, back = stats.ratio(a, b), stats.ratio(b, a)
    assert there.point == pytest.approx(1 / back.point)
    assert there.low == pytest.approx(1 / back.high, rel=0.02)
    assert stats.tie(a, b) == stats.tie(b, a)


def test_one_round_says_nothing_of_its_noise(measured: Make) -> None:
    """From a single sample the interval is everything, and any two arms tie."""
    a, b = measured([(0, 0, 0, 2.0)]), measured([(0, 0, 0, 1.0)])
    assert stats.ratio(a, b) == (pytest.approx(2.0), 0.0, math.inf)
    assert stats.tie(a, b)


def test_arms_that_share_no_round_have_no_ratio(measured: Make) -> None:
    """Other epochs, or no samples at all, are an error, not a number."""
    a = measured([(0, 0, 0, 1.0)])
    for other in ([(0, 1, 0, 1.0)], []):
        with pytest.raises(ValueError, match="share no round"):
            stats.ratio(a, measured(other))


def test_rounds_of_only_one_arm_do_not_count(measured: Make) -> None:
    """What was measured of one arm alone cannot be paired."""
    a = measured([(0, e, 0, 3.0) for e in range(3)])
    b = measured([(0, 0, 0, 1.0), (0, 1, 0, 1.0)])
    assert stats.ratio(a, b).point == pytest.approx(3)


def test_nan_never_gives_a_ratio(measured: Make) -> None:
    """A NaN among the times is NaN in the answer."""
    a = measured([(0, 0, r, 1.0) for r in range(3)])
    b = measured([(0, 0, r, math.nan) for r in range(3)])
    assert all(math.isnan(x) for x in stats.ratio(a, b))


@pytest.mark.parametrize("truth", [1.0, 1.1])
def test_the_interval_of_a_ratio_covers_the_truth(measured: Make, truth: float) -> None:
    """Of 120 comparisons with noise between epochs, 95 % should hold it: 90 % at the least do."""
    draw, inside = np.random.default_rng(11), 0
    for _ in range(120):
        found = stats.ratio(measured(noisy(truth, draw)), measured(noisy(1.0, draw)))
        inside += found.low <= truth <= found.high
    assert inside / 120 >= 0.9


def test_a_real_difference_is_no_tie(measured: Make) -> None:
    """Half as fast is seen through the same noise in three epochs, nearly always."""
    draw = np.random.default_rng(12)
    ties = [stats.tie(measured(noisy(2.0, draw)), measured(noisy(1.0, draw))) for _ in range(30)]
    assert sum(ties) <= 1


def test_a_release_keeps_its_arms_in_one_file(tmp_path: Path) -> None:
    """Columns are found under the arm's name where several arms share a file."""
    path = tmp_path / "samples.npz"
    columns: dict[str, Any] = {}
    for name, seconds in (("fast", 1.0), ("slow", 3.0)):
        zeros = np.zeros(3, np.int64)
        for key in ("request", "epoch", "round"):
            columns[f"0/{name}/{key}"] = zeros
        columns[f"0/{name}/seconds"] = np.full(3, seconds)
    np.savez(path, **columns)
    arms = [Measurement(n, path, ("all",), (1.0,), 0, 0, 0, 0, 0) for n in ("fast", "slow")]
    assert [stats.objective(arm) for arm in arms] == [1.0, 3.0]
