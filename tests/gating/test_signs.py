"""The sequential sign test: exact sums, every sequence of signs, the design's own table."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc, betaln

from accel.gating import signs

SETTINGS = settings(derandomize=True, deadline=None)
ALPHAS = (0.05, 0.01, 0.005, 0.0005)
LOGS = st.lists(st.floats(-0.5, 0.5, allow_subnormal=False), max_size=40)


def exact(h: int, n: int) -> Fraction:
    """E(h, n) in whole numbers: C(n+1, 0) + .. + C(n+1, h) over (n+1) C(n, h)."""
    return Fraction(sum(comb(n + 1, j) for j in range(h + 1)), (n + 1) * comb(n, h))


@pytest.mark.parametrize("n", [1, 2, 7, 40, 333, 2000])
def test_e_values_are_right_to_rounding(n: int) -> None:
    """In the bulk and in both tails, up to 2000 epochs."""
    for h in {*range(0, n + 1, max(1, n // 8)), n // 2, n}:
        value = exact(h, n)
        if value < 10**308:
            assert signs.e_value(h, n) == pytest.approx(float(value), rel=1e-12)


def test_e_values_are_the_mixture_over_probabilities() -> None:
    """The closed form by the beta function, and the integral that it stands for."""
    p = 0.5 + (np.arange(20_000) + 0.5) / 40_000  # the midpoints of 1/2 .. 1
    for h, n in ((0, 5), (4, 5), (14, 20), (31, 40)):
        beta = (n + 1) * math.log(2) + betaln(h + 1, n - h + 1)
        tail = betainc(n - h + 1, h + 1, 0.5)
        assert signs.e_value(h, n) == pytest.approx(math.exp(beta) * tail, rel=1e-9)
        mixture = np.mean((2 * p) ** h * (2 - 2 * p) ** (n - h))
        assert signs.e_value(h, n) == pytest.approx(mixture, rel=1e-6)


def test_an_e_value_is_finite_wherever_it_lies() -> None:
    """2000 of 2000 is beyond what a float holds: the largest float stands for it."""
    assert 1e300 < signs.e_value(2000, 2000) < math.inf
    assert signs.e_value(0, 2000) > 0


@pytest.mark.parametrize(("count", "n"), [(-1, 3), (4, 3)])
def test_a_count_outside_its_epochs_is_refused(count: int, n: int) -> None:
    """Naming both."""
    with pytest.raises(ValueError, match=f"{count} of {n} epochs"):
        signs.e_value(count, n)


@pytest.mark.parametrize(
    ("alpha", "counts"),
    [
        (0.05, (11, 14, 16, 19, 23, 29, 42)),
        (0.01, (12, 15, 18, 20, 24, 31, 44)),
        (0.0005, (None, 16, 19, 22, 26, 33, 46)),
    ],
)
def test_counts_that_a_verdict_needs(alpha: float, counts: tuple[int | None, ...]) -> None:
    """Of 12, 16, 20, 24, 30, 40 and 60 epochs."""
    assert tuple(signs.needed(n, alpha) for n in (12, 16, 20, 24, 30, 40, 60)) == counts


@pytest.mark.parametrize(("alpha", "earliest"), [(0.05, 7), (0.01, 9), (0.0005, 14)])
def test_the_earliest_verdict(alpha: float, earliest: int) -> None:
    """All epochs on one side, and not one epoch sooner."""
    assert signs.needed(earliest, alpha) == earliest
    assert all(signs.needed(n, alpha) is None for n in range(earliest))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_false_verdict_is_at_most_as_likely_as_promised(alpha: float) -> None:
    """Exactly at the limit, looked at after every one of up to 200 epochs."""
    chances = [signs.crossing_probability(n, alpha) for n in range(1, 201)]
    assert chances == sorted(chances)
    assert 0 < chances[-1] <= alpha


def test_false_verdicts_within_40_epochs() -> None:
    """The design's two figures."""
    assert signs.crossing_probability(40, 0.05) == pytest.approx(0.024, abs=5e-4)
    assert signs.crossing_probability(40, 0.01) == pytest.approx(0.0046, abs=5e-5)


@pytest.mark.parametrize("p", [0.5, 0.8])
def test_crossing_is_what_all_sequences_of_signs_give(p: float) -> None:
    """Every one of the 2^12 runs of 12 epochs, each judged by the test itself."""
    chance = 0.0
    for run in itertools.product((-1.0, 1.0), repeat=12):
        if signs.run(run, 0.0).e_worse >= 1 / 0.05:
            chance += math.prod(p if x > 0 else 1 - p for x in run)
    assert signs.crossing_probability(12, 0.05, p) == pytest.approx(chance, rel=1e-12)


def test_ties_with_the_limit_count_for_neither_side() -> None:
    """They are epochs all the same, and carry no claim."""
    seen = signs.run([0.03, 0.03, 0.05, 0.01], 0.03)
    assert (seen.n, seen.worse, seen.better) == (4, 1, 1)
    assert signs.run([0.03] * 30, 0.03)[3:] == (1.0, 1.0)


def test_a_verdict_stays_whatever_comes_after_it() -> None:
    """The largest e-value so far is kept: ten epochs beyond, then ten within."""
    seen = signs.run([0.1] * 10 + [-0.1] * 10, 0.0)
    assert seen.worse == seen.better == 10
    assert seen.e_worse == signs.e_value(10, 10) > signs.e_value(10, 20)


def test_no_epochs_say_nothing() -> None:
    """An e-value of 1, and an interval without ends."""
    assert signs.run([], 0.0) == (0, 0, 0, 1.0, 1.0)
    assert signs.interval([]) == (-math.inf, math.inf)


@SETTINGS
@given(LOGS)
def test_the_interval_holds_the_limits_that_no_epoch_has_refused(logs: list[float]) -> None:
    """Just inside both ends neither e-value has reached 2/alpha, just outside one has."""
    low, high = signs.interval(logs, 0.05)
    step = 1e-9
    refused = [max(signs.run(logs, c)[3:]) >= 2 / 0.05 for c in (low - step, high + step)]
    if low < high - 2 * step:
        assert refused == [math.isfinite(low), math.isfinite(high)]
        assert max(signs.run(logs, (max(low, -9) + min(high, 9)) / 2)[3:]) < 2 / 0.05


def test_an_interval_needs_eight_epochs() -> None:
    """At 95 %: with seven no count is extreme enough for 2.5 % a side."""
    assert signs.interval([0.1] * 7) == (-math.inf, math.inf)
    assert signs.interval([float(k) for k in range(8)]) == (0.0, 7.0)


def test_an_interval_never_moves_outwards() -> None:
    """Epochs that scatter more later take nothing back."""
    calm, wild = [0.01 * (-1) ** k for k in range(20)], [(-1.0) ** k for k in range(60)]
    assert signs.interval(calm + wild) == signs.interval(calm) == (-0.01, 0.01)
    assert signs.interval(calm[:6] + wild) == (-1.0, 1.0)


def test_epochs_that_contradict_each_other_leave_the_latest_interval() -> None:
    """Ten far above and thirty far below refuse every limit; low <= high is told nevertheless."""
    low, high = signs.interval([1.0] * 10 + [-1.0] * 40)
    assert (low, high) == (-1.0, -1.0)


@SETTINGS
@given(LOGS, st.floats(-0.1, 0.1))
def test_exchanging_the_arms_exchanges_the_sides(logs: list[float], limit: float) -> None:
    """Counts, e-values and the ends of the interval."""
    one, two = signs.run(logs, limit), signs.run([-x for x in logs], -limit)
    assert (one.worse, one.e_worse) == (two.better, two.e_better)
    low, high = signs.interval([-x for x in logs])
    assert signs.interval(logs) == (-high, -low)


@SETTINGS
@given(LOGS, st.floats(-0.1, 0.1), st.floats(0, 0.1))
def test_slower_epochs_never_look_better(logs: list[float], limit: float, shift: float) -> None:
    """Every log moved up: no less evidence of worse, no more of better."""
    one, two = signs.run(logs, limit), signs.run([x + shift for x in logs], limit)
    assert two.e_worse >= one.e_worse
    assert two.e_better <= one.e_better


@SETTINGS
@given(st.integers(1, 400))
def test_more_epochs_beyond_are_more_evidence(n: int) -> None:
    """E grows with the count, strictly."""
    values = [signs.e_value(h, n) for h in range(n + 1)]
    assert all(a < b for a, b in itertools.pairwise(values))
