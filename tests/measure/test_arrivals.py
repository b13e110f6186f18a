"""Arrivals: exponential gaps at the rate asked, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from accel.errors import UsageError
from accel.measure import arrivals


def test_gaps_are_exponential() -> None:
    """10,000 gaps pass a Kolmogorov-Smirnov test against the rate asked, and fail one 5 % off it."""
    times = arrivals.poisson_ns(1000, 10.5, 7, least=10_000)
    gaps_s = np.diff(times[:10_001]) * 1e-9
    assert kstest(gaps_s, "expon", args=(0, 1e-3)).pvalue > 0.01
    assert kstest(gaps_s, "expon", args=(0, 1.05e-3)).pvalue < 0.01


def test_the_same_seed_gives_the_same_schedule() -> None:
    """Times and requests; another seed gives others."""
    one, again, other = (arrivals.poisson_ns(50, 2, seed) for seed in (3, 3, 4))
    assert one.tolist() == again.tolist() != other.tolist()
    picks = [arrivals.picks((0.5, 0.5), 64, 2, seed).tolist() for seed in (3, 3, 4)]
    assert picks[0] == picks[1] != picks[2]


def test_times_ascend_and_end_with_the_run() -> None:
    """All lie in the run; more come only until the least number has."""
    times = arrivals.poisson_ns(200, 3, 0)
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 0
    assert times[-1] < 3e9
    assert abs(len(times) - 600) < 5 * 600**0.5
    longer = arrivals.poisson_ns(200, 3, 0, least=2000)
    assert len(longer) == 2000
    assert longer[: len(times)].tolist() == times.tolist()


@pytest.mark.parametrize(("qps", "seconds"), [(0, 10), (1e6, 10), (-5, 1)])
def test_a_rate_out_of_range_is_refused(qps: float, seconds: float) -> None:
    """Nothing is allocated for it; the message says what is allowed."""
    with pytest.raises(UsageError, match="at most 5000000 are allowed"):
        arrivals.poisson_ns(qps, seconds, 0)


def test_requests_are_drawn_by_weight() -> None:
    """Nine in ten are the heavy one, of all samples of all queries."""
    found = arrivals.picks((9.0, 1.0), 2000, 8, 0)
    assert found.shape == (2000, 8)
    assert abs((found == 0).mean() - 0.9) < 5 * (0.09 / 16000) ** 0.5
