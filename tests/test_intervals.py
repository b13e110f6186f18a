"""Intervals of a drop: hand-made and published values, scipy, and coverage on seeded data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from accel.intervals import bonferroni, paired_bootstrap_drop, spending, tango

Z = float(scipy.stats.norm.ppf(0.975))


def mean(rows: Any) -> float:
    return float(np.mean(rows))


def pairs(both: int, lost: int, won: int, neither: int) -> tuple[Any, Any]:
    """Right-or-wrong rows of two models with these counts of the paired 2 x 2 table."""
    a = np.repeat([True, True, False, False], [both, lost, won, neither])
    b = np.repeat([True, False, True, False], [both, lost, won, neither])
    return a, b


def score(n: int, lost: int, won: int, d: float) -> float:
    """The score statistic at difference d, its restricted likelihood maximised by search."""
    same = n - lost - won

    def loss(p: float) -> float:  # p = P(won), p + d = P(lost)
        parts = ((won, p), (lost, p + d), (same, 1 - 2 * p - d))
        return -sum(k * math.log(max(x, 1e-300)) for k, x in parts if k)

    low, high = max(0.0, -d), (1 - d) / 2
    p = scipy.optimize.minimize_scalar(
        loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    ).x
    return (lost - won - n * d) / math.sqrt(n * (2 * p + d * (1 - d)))


def test_tango_gives_the_published_interval() -> None:
    """Airway reactivity, table (1, 1, 7, 12): Fagerland et al., Statistics in Medicine 33 (2014)."""
    found = tango(*pairs(1, 1, 7, 12))
    assert (round(found.low, 3), round(found.high, 3)) == (-0.517, -0.026)
    assert found.drop == pytest.approx(-6 / 21)


@pytest.mark.parametrize("n", [1, 10, 44, 1000])
def test_two_that_never_disagree_still_have_an_interval(n: int) -> None:
    """Without a disagreement the limits are z2 / (n + z2) on either side: Tango 1998, section 4."""
    found = tango(*pairs(n, 0, 0, 0))
    limit = Z * Z / (n + Z * Z)
    assert (found.low, found.drop, found.high) == (
        pytest.approx(-limit, abs=1e-6),
        0,
        pytest.approx(limit, abs=1e-6),
    )


@pytest.mark.parametrize("counts", [(50, 9, 4, 20), (200, 0, 7, 3), (5, 12, 1, 0), (900, 8, 2, 90)])
def test_the_score_at_tangos_limits_is_the_normal_quantile(
    counts: tuple[int, int, int, int],
) -> None:
    """With the restricted likelihood maximised by scipy, the statistic is z at each of the limits."""
    found, n = tango(*pairs(*counts)), sum(counts)
    one = float(scipy.stats.norm.ppf(0.95))
    for limit, z in ((found.low, Z), (found.high, -Z), (found.upper, -one)):
        assert score(n, counts[1], counts[2], limit) == pytest.approx(z, abs=1e-3)


def test_tango_mirrors_when_the_models_change_places() -> None:
    """What one loses the other wins."""
    a, b = pairs(30, 6, 2, 10)
    there, back = tango(a, b), tango(b, a)
    assert (there.drop, there.low, there.high) == pytest.approx((-back.drop, -back.high, -back.low))


def test_tango_stays_inside_what_a_difference_can_be() -> None:
    """When everything was lost the interval ends at 1, and a single pair says next to nothing."""
    assert tango(*pairs(0, 20, 0, 0)).high == 1.0
    single = tango([True], [True])
    assert (single.low < -0.7, single.high > 0.7) == (True, True)


@pytest.mark.parametrize("truth", [0.0, 0.01])
def test_tango_keeps_its_level_where_disagreements_are_rare(truth: float) -> None:
    """Of 800 seeded data sets with 3 flips in 100, 95 % of bounds lie above the true drop."""
    draw, n = np.random.default_rng(7), 500
    lost, won = 0.015 + truth / 2, 0.015 - truth / 2
    tables = draw.multinomial(n, [1 - lost - won, lost, won], size=800)
    found = [tango(*pairs(same, x, y, 0)) for same, x, y in np.unique(tables, axis=0)]
    counts = np.unique(tables, axis=0, return_counts=True)[1]
    above = np.average([f.upper >= truth for f in found], weights=counts)
    inside = np.average([f.low <= truth <= f.high for f in found], weights=counts)
    assert 0.92 <= above <= 0.985
    assert 0.93 <= inside <= 0.99


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_bootstrap_agrees_with_scipy(method: str) -> None:
    """The interval is scipy's, up to the draws, of a drop that a few rows make most of."""
    draw = np.random.default_rng(1)
    a = draw.normal(1.0, 1.0, 60)
    b = a - 0.2 - draw.lognormal(0, 1.2, 60)
    found = paired_bootstrap_drop(mean, a, b, resamples=4000, corrected=method == "BCa")
    theirs = scipy.stats.bootstrap(
        (a, b),
        lambda x, y: np.mean(x) - np.mean(y),
        paired=True,
        vectorized=False,
        n_resamples=4000,
        method=method,
        random_state=0,
    ).confidence_interval
    step = theirs.high - theirs.low
    assert found.drop == pytest.approx(float(np.mean(a - b)))
    assert found.low == pytest.approx(theirs.low, abs=0.06 * step)
    assert found.high == pytest.approx(theirs.high, abs=0.06 * step)
    assert found.drop < found.upper < found.high


def test_bootstrap_covers_the_truth_of_independent_rows() -> None:
    """Of 200 seeded data sets, the intervals hold the true drop about as often as they say."""
    draw, inside, above = np.random.default_rng(2), 0, 0
    for _ in range(200):
        a = draw.normal(0, 1, 80)
        b = a - 0.3 + draw.normal(0, 1, 80)
        found = paired_bootstrap_drop(mean, a, b, resamples=300)
        inside += found.low <= 0.3 <= found.high
        above += found.upper >= 0.3
    assert 0.90 <= inside / 200 <= 0.99
    assert 0.90 <= above / 200 <= 0.99


def test_rows_in_blocks_need_their_clusters() -> None:
    """Where rows of a block share their error, only the bootstrap of whole blocks covers."""
    draw = np.random.default_rng(3)
    ids = np.repeat(np.arange(30), 10)
    hits = {"rows": 0, "blocks": 0}
    for _ in range(150):
        a = draw.normal(0, 1, 300)
        b = a - 0.3 + np.repeat(draw.normal(0, 1, 30), 10) + draw.normal(0, 0.3, 300)
        for name, clusters in (("rows", None), ("blocks", ids)):
            found = paired_bootstrap_drop(mean, a, b, clusters, resamples=200)
            hits[name] += found.low <= 0.3 <= found.high
    assert hits["blocks"] / 150 >= 0.88
    assert hits["rows"] / 150 < 0.7


def test_clusters_are_their_ids_in_any_order() -> None:
    """Rows of a cluster need not stand together."""
    draw = np.random.default_rng(4)
    a, b, ids = draw.normal(size=60), draw.normal(size=60), np.repeat(np.arange(12), 5)
    mixed = np.argsort(ids % 3, kind="stable")
    sorted_found = paired_bootstrap_drop(mean, a, b, ids)
    assert paired_bootstrap_drop(mean, a[mixed], b[mixed], ids[mixed]) == pytest.approx(
        sorted_found
    )


def test_clusters_may_be_named_by_texts() -> None:
    """A patient's name is as good as a number."""
    draw = np.random.default_rng(4)
    a, b, ids = draw.normal(size=60), draw.normal(size=60), np.repeat(np.arange(12), 5)
    named = np.array([f"patient {i:02}" for i in ids])
    assert paired_bootstrap_drop(mean, a, b, named) == paired_bootstrap_drop(mean, a, b, ids)


@pytest.mark.parametrize("look", [5, 8, 30])
def test_a_level_that_no_draws_can_reach_has_no_limits(look: int) -> None:
    """The fifth look and later ones: told at once, with nothing drawn, up to a level that is 1."""
    asked = 0

    def counted(rows: Any) -> float:
        nonlocal asked
        asked += 1
        return float(rows.mean())

    a, b = np.linspace(0, 1, 200), np.linspace(0, 0.9, 200)
    found = paired_bootstrap_drop(counted, a, b, level=spending(0.95, look), corrected=True)
    assert found.drop == pytest.approx(0.05)
    assert (found.low, found.high, found.upper) == (-math.inf, math.inf, math.inf)
    assert asked == 2


def test_the_same_rows_give_the_same_interval() -> None:
    """Draws are seeded."""
    rows = np.random.default_rng(5).normal(size=(2, 50))
    assert paired_bootstrap_drop(mean, *rows) == paired_bootstrap_drop(mean, *rows)


def test_a_drop_is_worse_in_both_directions_of_a_metric() -> None:
    """Where lower is better, a higher value is the drop."""
    a, b = np.zeros(20), np.ones(20)
    assert paired_bootstrap_drop(mean, a, b, higher_is_better=False).drop == 1.0
    assert paired_bootstrap_drop(mean, a, b).drop == -1.0


def test_a_metric_of_two_columns_sees_whole_rows() -> None:
    """Rows [N, K] are drawn as rows: a correlation of each with itself stays 1."""
    x = np.random.default_rng(6).normal(size=40)
    found = paired_bootstrap_drop(
        lambda r: float(np.corrcoef(r.T)[0, 1]), np.c_[x, x], np.c_[x, 2 * x]
    )
    assert found == pytest.approx((0, 0, 0, 0), abs=1e-12)


def test_draws_without_a_metric_are_left_out() -> None:
    """A draw on which the metric is NaN does not count; when all are, there is no interval."""
    rows = np.r_[np.zeros(3), np.ones(3)]

    def rate(x: Any) -> float:
        return math.nan if x.min() == x.max() else float(x.mean())

    assert all(math.isfinite(v) for v in paired_bootstrap_drop(rate, rows, rows))
    none = paired_bootstrap_drop(lambda _: math.nan, rows, rows)
    assert all(math.isnan(v) for v in none)


def test_a_single_pair_is_a_point() -> None:
    """The bootstrap of one pair knows no spread: what it returns is the pair's own drop."""
    assert paired_bootstrap_drop(mean, [1.0], [0.5]) == pytest.approx((0.5, 0.5, 0.5, 0.5))


def test_nan_in_a_row_never_becomes_a_bound() -> None:
    """A NaN row leaves NaN for the drop, and no finite drop beside it."""
    found = paired_bootstrap_drop(mean, [1.0, 1.0, 1.0], [1.0, math.nan, 1.0])
    assert math.isnan(found.drop)


@pytest.mark.parametrize("rows", [([], []), ([1, 0], [1])])
def test_rows_that_are_not_paired_are_refused(rows: Any) -> None:
    """No rows, or rows of unequal number, are an error that names both."""
    for interval in (tango, lambda a, b: paired_bootstrap_drop(mean, a, b)):
        with pytest.raises(ValueError, match="rows must be paired"):
            interval(*rows)


def test_bonferroni_shares_the_error_among_the_looks() -> None:
    """Two looks at 95 % need 97.5 % each; one, or none, needs what was asked."""
    assert [bonferroni(0.95, n) for n in (0, 1, 2, 10)] == pytest.approx([0.95, 0.95, 0.975, 0.995])


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_looks_one_after_another_share_the_error(level: float) -> None:
    """However many there are, and the first has most of it."""
    spent = [1 - spending(level, look) for look in range(1, 60)]
    assert sum(spent) == pytest.approx(1 - level)
    assert spent == sorted(spent, reverse=True)
    assert spent[0] == pytest.approx(0.8 * (1 - level))
