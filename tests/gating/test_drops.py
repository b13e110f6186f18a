"""Drops against a budget: outcomes, units, senses, and how often each is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from accel.evidence import Budget
from accel.gating import drops, samples
from accel.gating.drops import Rows
from accel.gating.samples import Alphas
from accel.intervals import tango_counts

POINT = Budget("drop", 1.0, "pt")


def mean(rows: Any) -> float:
    return float(100 * np.mean(rows))


def swapped(n: int, lost: int, won: int, wrong: int = 0) -> Rows:
    """Right-or-wrong rows; `wrong`: of both."""
    a, b = np.ones(n), np.ones(n)
    a[lost : lost + won], b[:lost] = 0, 0
    a[n - wrong :], b[n - wrong :] = 0, 0
    return Rows(a, b, mean, "accuracy", origin="certify split")


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        (swapped(2000, 10, 10), "pass"),
        (swapped(2000, 60, 10), "fail"),
        (swapped(2000, 25, 10), "cannot tell"),
        (swapped(100, 0, 0), "cannot tell"),
    ],
    ids=["equal", "worse", "between", "few"],
)
def test_three_outcomes(rows: Rows, outcome: str) -> None:
    """By the limits: equal answers of a hundred samples are no proof."""
    found = drops.cell(POINT, rows)
    assert found.outcome == outcome
    assert found.low is not None
    assert found.high is not None
    assert {"pass": found.high <= 1, "fail": found.low > 1}.get(
        outcome, found.low <= 1 < found.high
    )
    assert ("would " in found.reason) == (outcome == "cannot tell")


def test_a_metric_that_counts_down_keeps_its_limits() -> None:
    """-100 x the share of wrong answers: limits stand around the drop, and 2 pt is not within 1.5."""
    a, b = np.zeros(500), np.zeros(500)
    b[:10] = 1
    found = drops.cell(Budget("drop", 1.5, "pt"), Rows(a, b, lambda r: -100 * float(r.mean()), "x"))
    assert found.outcome != "pass"
    assert found.low is not None
    assert found.high is not None
    assert found.ratio is not None
    assert found.low <= found.ratio <= found.high


def test_what_a_cell_holds() -> None:
    """Both scores, the drop with its limits, answers lost and won, and the method by name."""
    found = drops.cell(POINT, swapped(1000, 12, 5, wrong=100))
    assert (found.baseline, found.value, found.ratio) == (
        pytest.approx(89.5),
        pytest.approx(88.8),
        pytest.approx(0.7),
    )
    assert (found.epochs, found.worse, found.better) == (1000, 12, 5)
    for part in ("89.5 -> 88.8", "drop 0.7 pt", "1,000 samples of the certify split", "Tango"):
        assert part in found.reason
    assert "12 lost, 5 won, McNemar p 0.14" in found.reason


def test_one_lost_answer_is_forgiven_before_a_fail() -> None:
    """The lower limit is that of the table with one fewer; the drop and the upper limit are not."""
    found, fewer = drops.cell(POINT, swapped(500, 9, 0)), tango_counts(500, 8, 0, 0.9)
    assert found.low == pytest.approx(100 * fewer.low)
    assert found.high == pytest.approx(100 * tango_counts(500, 9, 0, 0.9).high)
    assert found.ratio == pytest.approx(1.8)


def test_mcnemar_is_the_sign_test_of_what_changed() -> None:
    """Twice the smaller tail of a fair coin; nothing changed is no evidence."""
    assert drops.mcnemar(12, 5) == pytest.approx(2 * binom.cdf(5, 17, 0.5))
    assert drops.mcnemar(0, 0) == 1.0


def test_a_share_of_the_baselines_score() -> None:
    """99 % of a score of 50 is half a point; limits and drop are in the budget's unit."""
    rows = swapped(4000, 10, 10, wrong=1990)
    assert drops.cell(POINT, rows).baseline == pytest.approx(50.0)
    share = drops.cell(Budget("drop", 0.01, "%"), rows)
    points = drops.cell(Budget("drop", 0.5, "pt"), rows)
    assert share.outcome == points.outcome == "pass"
    assert (share.high, share.low) == (
        pytest.approx((points.high or 0) / 50),
        pytest.approx((points.low or 0) / 50),
    )


def test_a_point_of_a_fraction_is_a_hundredth() -> None:
    """A metric in fractions meets the same budget as the same metric in points."""
    rows = swapped(2000, 25, 10)
    fraction = Rows(rows.baseline, rows.candidate, lambda r: float(np.mean(r)), unit="fraction")
    one, other = drops.cell(POINT, rows), drops.cell(POINT, fraction)
    assert (one.ratio, one.low, one.high) == pytest.approx(
        (other.ratio or 0, other.low or 0, other.high or 0)
    )


def test_more_errors_are_worse() -> None:
    """Where lower is better the same change fails, and lost answers are those now wrong."""
    rows = swapped(2000, 60, 10)
    errors = Rows(1 - rows.baseline, 1 - rows.candidate, mean, higher_is_better=False)
    found = drops.cell(POINT, errors)
    assert (found.outcome, found.worse, found.better) == ("fail", 60, 10)
    assert found.ratio == pytest.approx(2.5)


def test_equal_answers_say_how_many_of_them_would_do() -> None:
    """That number passes and one less does not: z2 (1 - m) / m, z2 being 1.6449 squared."""
    assert "270 equal answers would do" in drops.cell(POINT, swapped(100, 0, 0)).reason
    assert drops.cell(POINT, swapped(268, 0, 0)).outcome == "pass"
    assert drops.cell(POINT, swapped(267, 0, 0)).outcome == "cannot tell"
    none = drops.cell(Budget("drop", 0.0, "pt"), swapped(267, 0, 0))
    assert "no number of samples" in none.reason


def test_rows_in_clusters_are_judged_by_cluster() -> None:
    """Clips that each lose all or nothing tell less than their 2,400 frames seem to."""
    ids = np.repeat(np.arange(120), 20)
    a, b = np.ones(2400), np.where(ids < 3, 0.0, 1.0)
    budget = Budget("drop", 4.0, "pt")
    alone = drops.cell(budget, Rows(a, b, mean))
    together = drops.cell(budget, Rows(a, b, mean, clusters=ids))
    assert (alone.outcome, together.outcome) == ("pass", "cannot tell")
    assert "paired cluster bootstrap" in together.reason
    assert "clusters" in together.reason


def test_a_bootstrap_of_a_few_rows_proves_nothing() -> None:
    """Twenty cosines, all alike, leave no width: it is said that they are too few."""
    few, many = (Rows(np.ones(n), np.full(n, 0.9999), mean) for n in (20, 200))
    assert drops.cell(POINT, few).outcome == "cannot tell"
    assert f"{drops.LEAST_TO_PASS} are the least" in drops.cell(POINT, few).reason
    assert drops.cell(POINT, many).outcome == "pass"
    lost = Rows(np.ones(20), np.linspace(0.5, 0.6, 20), mean)
    assert drops.cell(POINT, lost).outcome == "fail"


def test_a_score_that_is_no_number_breaks_the_candidate() -> None:
    """Unless the baseline's is none either: then nothing can be told."""
    good, bad = np.linspace(0.1, 0.9, 60), np.full(60, np.nan)
    assert drops.cell(POINT, Rows(good, bad, mean)).outcome == "broken"
    assert drops.cell(POINT, Rows(bad, good, mean)).outcome == "cannot tell"


def test_at_the_margin_itself_either_error_is_rare() -> None:
    """Of 1,500 seeded sets with a true drop of just the budget, about 5 % pass and 5 % fail."""
    n, trials, discordance = 800, 1500, 0.06
    lost, won = (discordance + 0.01) / 2, (discordance - 0.01) / 2
    tables = np.random.default_rng(5).multinomial(n, [1 - lost - won, lost, won], size=trials)
    kinds, counts = np.unique(tables[:, 1:], axis=0, return_counts=True)
    outcomes = [drops.cell(POINT, swapped(n, int(x), int(y))).outcome for x, y in kinds]
    for wrong in ("pass", "fail"):
        share = np.average([o == wrong for o in outcomes], weights=counts)
        assert share <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_a_fail_needs_its_own_level() -> None:
    """Beyond the budget at the level of a PASS alone, nothing is claimed, and it is said why."""
    rows = swapped(2000, 38, 5)
    assert drops.cell(POINT, rows).outcome == "fail"
    found = drops.cell(POINT, rows, Alphas(0.05, 0.001))
    assert found.outcome == "cannot tell"
    assert "at 95 %, and a FAIL is claimed at 99.9 %" in found.reason
    assert drops.cell(POINT, swapped(2000, 80, 5), Alphas(0.05, 0.001)).outcome == "fail"


@pytest.mark.parametrize("alpha", [0.01, 0.0025, 0.001])
@pytest.mark.parametrize(("n", "changed"), [(200, 0.05), (1000, 0.03), (3000, 0.1)])
def test_at_the_budget_it_fails_no_more_often_than_it_may(
    n: int, changed: float, alpha: float
) -> None:
    """Exact, over all numbers of lost and won answers of a candidate that loses just the budget."""
    assert samples.chances(n, 0.01, changed, 0.01, alpha)[1] <= 1.1 * alpha
