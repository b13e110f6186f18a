"""The gate's error rates where nothing need be simulated: exact, by dynamic programming.

    python benchmarks/gate/exact.py

A machine whose candidate lies exactly at the budget exceeds it in every second epoch. How often does
the sign test claim a FAIL (or a PASS) within N epochs, looked at after each of them? At most alpha,
for every N. Beside it: the counts that a verdict needs, and what re-running until it is green does to
a gate that starts anew each time. Exit code 1: a probability is above its alpha.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from accel.gating.signs import crossing_probability, needed

ALPHAS = (0.05, 0.01, 0.005, 0.0005)
EPOCHS = (7, 9, 12, 14, 16, 20, 24, 30, 40, 60, 80, 100, 150, 200)
FIXED_ALPHA, RUNS, RUN_EPOCHS = 0.05, 10, 40


def crossing() -> dict[tuple[int, float], float]:
    """P(crossing at the boundary) of each number of epochs up to 200 and each alpha."""
    return {(n, a): crossing_probability(n, a) for n in range(1, 201) for a in ALPHAS}


def rerun() -> tuple[float, float, float]:
    """P(a false verdict at some time) in ten runs of 40 epochs, each at 5 %: tests that start anew,
    this test started anew each time, and this test going on from where it was."""
    anew = crossing_probability(RUN_EPOCHS, FIXED_ALPHA)
    return (
        1 - (1 - FIXED_ALPHA) ** RUNS,
        1 - (1 - anew) ** RUNS,
        crossing_probability(RUNS * RUN_EPOCHS, FIXED_ALPHA),
    )


def tables() -> Iterator[str]:
    """What is printed, line by line."""
    found = crossing()
    yield "P(crossing within N epochs), the median exactly at the budget\n"
    yield "| N | " + " | ".join(f"alpha {a:g}" for a in ALPHAS) + " |"
    yield "|---" * (len(ALPHAS) + 1) + "|"
    for n in EPOCHS:
        yield f"| {n} | " + " | ".join(f"{found[n, a]:.5f}" for a in ALPHAS) + " |"
    worst = max(found, key=lambda k: found[k] / k[1])
    yield f"\nnearest to its alpha: {found[worst]:.5f} of {worst[1]:g}, at N = {worst[0]}\n"
    yield "Epochs beyond (or within) the budget that a verdict needs, of N\n"
    yield "| N | " + " | ".join(f"alpha {a:g}" for a in ALPHAS) + " |"
    yield "|---" * (len(ALPHAS) + 1) + "|"
    for n in EPOCHS:
        yield f"| {n} | " + " | ".join(str(needed(n, a) or "-") for a in ALPHAS) + " |"
    fixed, anew, on = rerun()
    yield f"\nRe-run until green, {RUNS} runs at {FIXED_ALPHA:g}: a false verdict at some time"
    yield f"  tests of a fixed size, each run anew        {fixed:.4f}"
    yield f"  this test, each run anew (N = {RUN_EPOCHS})            {anew:.4f}"
    yield f"  this test, going on with its epochs (N = {RUNS * RUN_EPOCHS}) {on:.4f}"


if __name__ == "__main__":
    print("\n".join(tables()))
    sys.exit(any(p > a for (_, a), p in crossing().items()))
