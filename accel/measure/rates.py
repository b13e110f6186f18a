"""The largest rate of arrivals at which p99 keeps inside a bound: by bisection, then confirmed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

QUERIES = 1000  # of a run that is to carry p99: ten lie beyond it
FINEST = 0.02  # of the capacity: where bisection ends
BACK = 0.95  # of the rate, after a run that was to confirm it and did not
CONFIRMING = 5  # runs, at most


@dataclass(frozen=True)
class Try:
    """One run of the search."""

    qps: float
    p99_s: float | None  # None: the run was ended, as p99 could not keep inside
    inside: bool
    confirming: bool = False


@dataclass(frozen=True)
class Rate:
    """What the search found. `qps` None: no rate that was tried keeps inside the bound."""

    qps: float | None
    bound_s: float
    capacity_qps: float  # one over the mean call: beyond it the queue grows without end
    tries: tuple[Try, ...]
    confirmed: bool


def largest(
    p99_s: Callable[[float, int], float | None], capacity_qps: float, bound_s: float
) -> Rate:
    """Bisect between none and the capacity. `p99_s(qps, number)`: of a fresh run with arrivals of
    its own, the number-th of the search; None where it cannot be had.

    Chance lets one of several runs pass too high a rate, so the one found is run anew; where that
    fails it is lowered by 5 % and run again."""
    tries: list[Try] = []

    def holds(qps: float, confirming: bool) -> bool:
        found = p99_s(qps, len(tries))
        tries.append(Try(qps, found, found is not None and found <= bound_s, confirming))
        return tries[-1].inside

    low, high = 0.0, capacity_qps
    while high - low > FINEST * capacity_qps:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle, False) else (low, middle)
    for _ in range(CONFIRMING if low else 0):
        if holds(low, True):
            return Rate(low, bound_s, capacity_qps, tuple(tries), True)
        low *= BACK
    return Rate(None, bound_s, capacity_qps, tuple(tries), False)
