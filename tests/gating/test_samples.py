"""How many samples a claim on accuracy needs: exact sums against draws and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from accel.errors import UsageError
from accel.gating import samples
from accel.intervals import tango, tango_counts


def _drawn(n: int, margin: float, discordance: float, drop: float) -> tuple[float, float]:
    """Shares of PASS and FAIL among seeded sets of n pairs, by Tango's limits themselves."""
    lost, won = (discordance + drop) / 2, (discordance - drop) / 2
    draw = np.random.default_rng(n)
    tables = draw.multinomial(n, [1 - lost - won, lost, won], size=4000)
    kinds, counts = np.unique(tables, axis=0, return_counts=True)
    limits = []
    for same, x, y in kinds:
        a = np.repeat([True, True, False], [same, x, y])
        b = np.repeat([True, False, True], [same, x, y])
        forgiven = tango_counts(n, max(0, int(x) - 1), int(y), 0.9)
        limits.append((tango(a, b, 0.9).high <= margin, forgiven.low > margin))
    passes, fails = np.average(limits, axis=0, weights=counts)
    return float(passes), float(fails)


@pytest.mark.parametrize(
    ("n", "margin", "discordance", "drop"),
    [(600, 0.02, 0.05, 0.0), (500, 0.01, 0.06, 0.01), (300, 0.02, 0.1, 0.05)],
    ids=["no drop", "a drop as large as the margin", "a drop beyond it"],
)
def test_chances_are_those_of_the_interval(
    n: int, margin: float, discordance: float, drop: float
) -> None:
    """The sum agrees with 4,000 seeded data sets that are judged by Tango's interval."""
    exact = samples.chances(n, margin, discordance, drop)
    assert exact == pytest.approx(_drawn(n, margin, discordance, drop), abs=0.025)


@pytest.mark.parametrize("n", [200, 1000, 5000])
@pytest.mark.parametrize("discordance", [0.005, 0.01, 0.08])
def test_a_candidate_at_the_margin_rarely_passes_or_fails(n: int, discordance: float) -> None:
    """With a true drop of just the margin: a PASS in little more than 5 %, a FAIL in 5 % at most."""
    passes, fails = samples.chances(n, 0.005, discordance, drop=0.005)
    assert passes < 0.052
    assert fails <= 0.05


@pytest.mark.parametrize(
    ("n", "margin", "lost"), [(539, 0.005, 0), (894, 0.005, 1), (133, 0.02, 0)]
)
def test_where_hardly_an_answer_changes_a_pass_is_less_sure(
    n: int, margin: float, lost: int
) -> None:
    """A candidate at the margin that wins nothing, on the fewest samples on which so many lost answers
    pass: up to 7 %, as README has it."""
    passes, _ = samples.chances(n, margin, margin, drop=margin)
    assert passes == pytest.approx(binom.cdf(lost, n, margin))
    assert 0.06 < passes < 0.07


def test_a_thousand_samples_cannot_prove_half_a_point() -> None:
    """Said before anything is run, with the chances and what would do; many samples say nothing."""
    told = samples.beforehand(1000, 0.005)
    assert told is not None
    assert told.startswith("1,000 samples cannot prove a drop of at most 0.5 pt")
    assert "14 to 44 % of runs" in told
    assert "3,700 to 28,000 samples would do" in told
    assert samples.beforehand(40_000, 0.005) is None
    assert samples.beforehand(3_000, 0.005, discordance=0.08) is not None
    assert samples.beforehand(100, 0.0) is not None


@pytest.mark.parametrize("discordance", [0.01, 0.05])
def test_as_many_as_needed_do_and_half_of_them_do_not(discordance: float) -> None:
    """The number that is asked for has the power that was asked for; more changes need more."""
    n = samples.needed(0.01, discordance)
    assert samples.chances(n, 0.01, discordance)[0] >= samples.POWER
    assert samples.chances(n // 2, 0.01, discordance)[0] < samples.POWER
    assert samples.needed(0.01, 2 * discordance) > n


def test_where_the_sum_would_be_long_the_normal_approximation_joins_on() -> None:
    """Just below and just above the number at which it takes over, both give nearly the same."""
    margin = 0.0015
    discordance = samples.EXACT_BELOW * margin**2 / 8.5639  # (1.6449 + 1.2816)^2
    below, above = (samples.needed(margin, discordance * f) for f in (0.98, 1.02))
    assert below < samples.EXACT_BELOW < above
    assert above / below == pytest.approx(1.02 / 0.98, abs=0.02)


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.1])
def test_no_number_proves_an_impossible_margin(margin: float) -> None:
    """Nothing at all, everything, or less than nothing: the error names the value."""
    with pytest.raises(UsageError, match=f"{100 * margin:g} pt"):
        samples.needed(margin, 0.05)


def test_more_samples_narrow_the_interval_enough() -> None:
    """By the width at n: at the number that is told, nine in ten sets decide."""
    a, b = np.ones(2000), np.ones(2000)
    b[:30], a[30:55] = 0, 0
    found = tango(a, b, 0.9)
    n = samples.more(2000, found.drop, found.low, found.high, 0.01)
    assert n is not None
    passes, _ = samples.chances(n, 0.01, 55 / 2000, drop=5 / 2000)
    assert passes == pytest.approx(0.9, abs=0.03)
    assert samples.more(2000, 0.01, 0.0, 0.02, 0.01) is None


def test_a_number_for_people_is_rounded_up() -> None:
    """Two digits count; a number that is rounded down would not do."""
    assert [samples.rounded(n) for n in (7, 42, 101, 27_436)] == ["7", "42", "110", "28,000"]
