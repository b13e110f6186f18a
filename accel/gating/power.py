"""What a gate can see: the noise of its epochs, and the differences that it would find in it.

Pure functions of ln ratios, [n] in the order of their epochs. Nothing here decides a cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from math import comb

from accel.gating.signs import crossing_probability

# Median absolute deviation -> standard deviation of a normal law, and what makes it unbiased for
# few values: b_n of Croux & Rousseeuw, Time-efficient algorithms for two highly robust estimators
# of scale, Computational Statistics 1:411 (1992), table after equation 4
MAD_TO_SD = 1.4826
FEW = (1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107)  # n = 2 .. 9

CONCLUDES = 0.98  # of runs on identical arms that a machine fit for a budget shall end with a PASS
TAIL_FREEDOM = 3  # Student's t: the heavy tails that epochs were seen to have


def hodges_lehmann(logs: Sequence[float]) -> float:
    """The median of all pairwise means, each value's with itself too: a robust centre.

    Hodges & Lehmann, Annals of Mathematical Statistics 34:598 (1963). Raises ValueError on []."""
    import numpy as np

    if not len(logs):
        raise ValueError("no epochs: there is no centre to estimate")
    values = np.asarray(logs, np.float64)
    first, second = np.triu_indices(len(values))
    return float(np.median((values[first] + values[second]) / 2))


def robust_sigma(logs: Sequence[float]) -> float | None:
    """1.4826 x the median absolute deviation from the median, unbiased at the normal law.

    None of fewer than two values."""
    import numpy as np

    n = len(logs)
    if n < 2:
        return None
    values = np.asarray(logs, np.float64)
    factor = FEW[n - 2] if n < 10 else n / (n - 0.8)
    return factor * MAD_TO_SD * float(np.median(np.abs(values - np.median(values))))


def detectable(
    logs: Sequence[float], limit_log: float, n_max: int, alpha: float, power: float = 0.8
) -> float | None:
    """The ln ratio that would FAIL in `power` of runs of n_max epochs with noise like these logs.

    Runs are drawn from the centred epochs, with replacement. Only signs count, so the share p of
    epochs beyond the limit says all, and the probability of a FAIL at p is known exactly: this is
    the bootstrap's own limit, without its draws. None where n_max epochs cannot do it at any
    ratio, or there are no epochs."""
    share = _share(n_max, alpha, power)
    if share is None or not len(logs):
        return None
    ordered = sorted(logs, reverse=True)
    centre = _median(ordered)
    least = max(1, math.ceil(share * len(ordered) - 1e-9))  # epochs that must come out beyond it
    return limit_log - (ordered[least - 1] - centre)


def smallest_budget(sigma: float, n_max: int, alpha: float = 0.05) -> float:
    """The smallest budget, as a share, that can be gated: inf where n_max epochs carry none.

    With it 98 % of runs on identical arms end with a PASS within n_max epochs, where an epoch's ln
    ratio is Student's t with 3 degrees of freedom around 0, scaled to the robust standard deviation
    `sigma`. By the exact probability of crossing this is 0.99 sigma at n_max = 40 (normal noise:
    0.95), 1.41 at 24 and 0.80 at 60."""
    reach = _sigmas(n_max, alpha)
    return math.inf if reach is None else math.expm1(min(reach * sigma, 700.0))


def runs_p(logs: Sequence[float]) -> float | None:
    """Two-sided p-value of the runs above and below the median; None where all are one value.

    Epochs that know nothing of each other come in neither too few runs (drift, steps) nor too many
    (alternation). Exact: Wald & Wolfowitz, Annals of Mathematical Statistics 11:147 (1940); twice
    the smaller tail, at most 1. Values at the median are left out."""
    centre = _median(sorted(logs)) if len(logs) else 0.0
    above = [x > centre for x in logs if x != centre]
    m, n = sum(above), len(above) - sum(above)
    if not m or not n:
        return None
    seen = 1 + sum(a != b for a, b in pairwise(above))
    fewer = sum(_arrangements(m, n, r) for r in range(2, seen + 1))
    more = sum(_arrangements(m, n, r) for r in range(seen, m + n + 1))
    return min(1.0, 2 * min(fewer, more) / comb(m + n, m))


def _arrangements(m: int, n: int, runs: int) -> int:
    """Orders of m values above and n below that come in so many runs (2 or more)."""
    half, odd = divmod(runs, 2)
    if not odd:
        return 2 * comb(m - 1, half - 1) * comb(n - 1, half - 1)
    return comb(m - 1, half) * comb(n - 1, half - 1) + comb(m - 1, half - 1) * comb(n - 1, half)


def _median(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return (ordered[half] + ordered[-1 - half]) / 2


@cache
def _share(n_max: int, alpha: float, power: float) -> float | None:
    """The smallest probability of an epoch beyond the limit that crosses in `power` of runs."""
    if crossing_probability(n_max, alpha, 1.0) < power:
        return None
    return _least(lambda p: crossing_probability(n_max, alpha, p) >= power, 0.5, 1.0)


@cache
def _sigmas(n_max: int, alpha: float) -> float | None:
    from scipy.special import stdtrit  # the quantile of Student's t

    share = _share(n_max, alpha, CONCLUDES)
    if share is None:
        return None
    quartile = float(stdtrit(TAIL_FREEDOM, 0.75)) / 0.674490  # of the normal law, of sigma 1
    return float(stdtrit(TAIL_FREEDOM, share)) / quartile


def _least(enough: Callable[[float], bool], low: float, high: float) -> float:
    """By bisection, where `enough` turns true between low and high."""
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
