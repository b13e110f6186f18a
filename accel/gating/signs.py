"""The sequential sign test: is the median of an epoch's ln ratio beyond a limit? Pure functions.

Of n epochs, h lie beyond the limit. Under "the median is at most the limit" each does so with a
probability of at most 1/2, whatever the noise looks like. The e-value is the likelihood of the
count, mixed uniformly over probabilities p in (1/2, 1), over its likelihood at 1/2:

    E(h, n) = 2 ∫ (2p)^h (2 - 2p)^(n-h) dp  over 1/2 .. 1
            = 2^(n+1) B(h+1, n-h+1) (1 - I_1/2(h+1, n-h+1))

(method of mixtures: Robbins, Annals of Mathematical Statistics 41:1397, 1970, from memory). It is
a nonnegative supermartingale under that hypothesis, so that the probability of its ever reaching
1/alpha is at most alpha (Ville 1939). It may be looked at after every epoch, stopped at any time,
and gone on with: looking again costs nothing.
"""

from __future__ import annotations

import math
import sys
from bisect import insort
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

ROUNDING = 1e-12  # relative; E is a sum of positive terms, some n roundings away from exact


class Signs(NamedTuple):
    """Epochs, those beyond the limit and within it (ties: neither), the largest e-values so far.

    E-values start at 1, before the first epoch."""

    n: int
    worse: int
    better: int
    e_worse: float  # against "the median is at most the limit"
    e_better: float  # against "the median is at least the limit"


@cache
def e_value(count: int, n: int) -> float:
    """E(count, n), at most what a float holds. Raises ValueError where count is not in 0 .. n.

    By 1 - I_1/2(h+1, n-h+1) = P(Bin(n+1, 1/2) <= h) the formula is a sum of binomial coefficients,
    C(n+1, j) / C(n, h) over j <= h, divided by n+1: positive terms, each from the one before."""
    if not 0 <= count <= n:
        raise ValueError(f"{count} of {n} epochs: the count must lie in 0 .. {n}")
    term = total = (n + 1) / (n + 1 - count)
    for j in range(count, 0, -1):
        term *= j / (n + 2 - j)
        total += term
    return min(total / (n + 1), sys.float_info.max)


@cache
def needed(n: int, alpha: float) -> int | None:
    """The smallest count of n epochs whose e-value reaches 1/alpha; None where n do not do."""
    bar = (1 - ROUNDING) / alpha
    return next((h for h in range(n // 2, n + 1) if e_value(h, n) >= bar), None)


def run(logs: Sequence[float], limit_log: float) -> Signs:
    """What the ln ratios, [n] in the order of their epochs, say about a limit (a logarithm)."""
    worse = better = 0
    e_worse = e_better = 1.0
    for n, log in enumerate(logs, 1):
        worse += log > limit_log
        better += log < limit_log
        e_worse = max(e_worse, e_value(worse, n))
        e_better = max(e_better, e_value(better, n))
    return Signs(len(logs), worse, better, e_worse, e_better)


def interval(logs: Sequence[float], alpha: float = 0.05) -> tuple[float, float]:
    """A confidence sequence for the median ln ratio: the limits that no count has yet refused.

    Each side at alpha/2. After n epochs with k = needed(n, alpha/2), the k-th largest refuses every
    limit below it, the k-th smallest every one above it; an end is infinite while no count can
    refuse. Ends never move outwards, as e-values never fall. Should the epochs disagree so much
    that nothing is left between them, the ends of the latest counts alone are told."""
    ordered: list[float] = []
    low, high = now = -math.inf, math.inf
    for n, log in enumerate(logs, 1):
        insort(ordered, log)
        k = needed(n, alpha / 2)
        if k is not None:
            now = ordered[n - k], ordered[k - 1]
            low, high = max(low, now[0]), min(high, now[1])
    return (low, high) if low <= high else now


def crossing_probability(n_max: int, alpha: float, p: float = 0.5) -> float:
    """P(E reaches 1/alpha within n_max epochs), each beyond the limit with probability p.

    By dynamic programming over the counts; exact but for the rounding of floats."""
    alive = [1.0]  # [h]: the probability of h epochs beyond the limit, and of no crossing yet
    crossed = 0.0
    for n in range(1, n_max + 1):
        alive = [
            (alive[h] * (1 - p) if h < len(alive) else 0.0) + (alive[h - 1] * p if h else 0.0)
            for h in range(len(alive) + 1)
        ]
        bar = needed(n, alpha)
        if bar is not None:
            crossed += sum(alive[bar:])
            alive = alive[:bar]
    return crossed
