"""Flips: what is counted, Clopper-Pearson's limits, and the three outcomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from accel.evidence import Budget
from accel.gating import flips
from accel.gating.samples import Alphas

TWO = Budget("flips", 0.02, "%")


def _logits(*rows: list[float]) -> dict[str, Any]:
    return {"logits": np.array(rows, np.float32)}


def _flipped(count: int, n: int) -> Any:
    return np.arange(n) < count


def test_an_item_is_changed_when_its_first_class_is() -> None:
    """Each item of a batch counts alone; other values may move as they like."""
    want = [(_logits([1, 2], [2, 1]),), (_logits([0, 9]),)]
    got = [(_logits([5, 9], [0, 1]),), (_logits([8, 9]),)]
    assert flips.changed(want, got).tolist() == [False, True, False]


def test_a_sample_of_several_calls_is_one() -> None:
    """A pair of texts is changed when either of them is."""
    same, other = _logits([1, 2]), _logits([2, 1])
    pairs = [(same, same), (same, same), (same, same)]
    got = [(same, same), (same, other), (other, other)]
    assert flips.changed(pairs, got).tolist() == [False, True, True]


def test_an_embedding_has_no_first_class() -> None:
    """Then there is nothing to count, and the outputs that there are get named."""
    found = flips.changed([({"pooled": np.ones((1, 4))},)], [({"pooled": np.ones((1, 4))},)])
    assert isinstance(found, str)
    assert "pooled" in found


def test_items_without_a_counterpart_are_not_counted() -> None:
    """A detector's scores: three boxes against two, or no box at all."""
    two, three = _logits([1, 2], [2, 1]), _logits([1, 2], [2, 1], [1, 2])
    assert "differs in shape" in flips.changed([(two,)], [(three,)])
    empty = {"scores": np.ones((1, 0), np.float32)}
    assert "scores" in flips.changed([(empty,)], [(empty,)])


@pytest.mark.parametrize(("count", "n"), [(0, 50), (3, 200), (50, 50)])
def test_the_limits_are_clopper_and_pearsons(count: int, n: int) -> None:
    """scipy's exact interval at twice the one-sided level."""
    theirs = binomtest(count, n).proportion_ci(0.9, "exact")
    assert flips.clopper_pearson(count, n) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize(
    ("count", "n", "outcome"),
    [(0, 500, "pass"), (10, 2000, "pass"), (30, 500, "fail"), (8, 500, "cannot tell")],
)
def test_three_outcomes(count: int, n: int, outcome: str) -> None:
    """By the limits, not by the share; what would tell is told."""
    found = flips.cell(TWO, _flipped(count, n))
    assert found.outcome == outcome
    assert (found.worse, found.epochs, found.ratio) == (count, n, count / n)
    assert ("would tell" in found.reason) == (outcome == "cannot tell")


@pytest.mark.parametrize("n", [200, 1000])
def test_at_the_budget_itself_either_error_is_under_five_percent(n: int) -> None:
    """The exact chance of PASS, and of FAIL, over all counts that there may be."""
    outcomes = [flips.cell(TWO, _flipped(k, n)).outcome for k in range(n // 10)]
    weights = binom.pmf(np.arange(n // 10), n, TWO.limit)
    for wrong in ("pass", "fail"):
        assert weights @ np.array([o == wrong for o in outcomes]) <= 0.05


def test_a_single_request_fails_nothing() -> None:
    """Nineteen that all flip cannot tell, and it is said why; twenty do."""
    few = flips.cell(TWO, _flipped(19, 19))
    assert (few.outcome, "20 samples are the least" in few.reason) == ("cannot tell", True)
    assert flips.cell(TWO, _flipped(20, 20)).outcome == "fail"


def test_the_least_number_is_the_least_that_passes_without_a_flip() -> None:
    """One fewer cannot tell; it is said beforehand; a budget of 0 is never proved."""
    n = flips.least(TWO.limit)
    assert n == 149  # ln .05 / ln .98
    assert flips.cell(TWO, _flipped(0, n)).outcome == "pass"
    short = flips.cell(TWO, _flipped(0, n - 1))
    assert (short.outcome, "150 samples without a flip" in short.reason) == ("cannot tell", True)
    assert flips.beforehand(n, TWO.limit) is None
    assert flips.beforehand(n - 1, TWO.limit) is not None
    assert "no number" in str(flips.beforehand(10_000, 0.0))
    assert flips.cell(Budget("flips", 0.0, "%"), _flipped(0, 500)).outcome == "cannot tell"


def test_a_fail_needs_its_own_level() -> None:
    """Beyond the budget at the level of a PASS alone, nothing is claimed."""
    just = _flipped(17, 500)
    assert flips.cell(TWO, just).outcome == "fail"
    found = flips.cell(TWO, just, Alphas(0.05, 0.001))
    assert found.outcome == "cannot tell"
    assert "a FAIL is claimed at 99.9 %" in found.reason
