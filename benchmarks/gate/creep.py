"""How often Apache Otava, as `accel creep` asks it, sees a step in noise, and how late a real one.

    ACCEL_OTAVA=~/.otava/bin/otava python benchmarks/gate/creep.py [--series 200] [--json]

Made-up histories, no machine is timed. Noise: the share of series of 100 gates, all alike, with a
change point told, at a sigma of the gates' ratios that is small beside the smallest change that is
told (1 %) and at one that is large beside it, where only Otava's own p = 0.001 decides; independent
and AR(0.5). Delay: a step of two and of one sigma after 60 gates; how many gates after it were there
when it was first told (4 at least, by rule), and how many of the steps were not told within 20.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from accel.gating import creep, history
from accel.gating.history import Entry, Series

GATES, BEFORE, WITHIN = 100, 60, 20


def series(name: str, logs: Sequence[float]) -> Series:
    """A history with these logarithms, without a budget: changes of 1 % are told."""
    return history.joined([
        Entry(f"{i:04d}", "made-up", name, "p50", log, log, 9, "pass", "", "", "", f"{name}-{i}", str(i))
        for i, log in enumerate(logs)
    ])  # fmt: skip


def noise(draw: random.Random, count: int, sigma: float, memory: float = 0.0) -> list[float]:
    """AR(memory) of standard deviation sigma."""
    fresh, logs = (1 - memory**2) ** 0.5, [draw.gauss(0, 1)]
    while len(logs) < count:
        logs.append(memory * logs[-1] + fresh * draw.gauss(0, 1))
    return [sigma * log for log in logs]


def false_alarms(draw: random.Random, count: int, sigma: float, memory: float) -> dict[str, Any]:
    """The share of series of noise in which a change is told."""
    found = creep.find([series(f"n{i}", noise(draw, GATES, sigma, memory)) for i in range(count)])
    hit = len({shift.name for shift in found.shifts})
    return {"sigma": sigma, "memory": memory, "series": count, "told": hit, "share": hit / count}


def delay(draw: random.Random, count: int, sigma: float, sigmas: float) -> dict[str, Any]:
    """Gates after a step until it is told, at a place within 3 gates of it."""
    step, cut = sigma * sigmas, []
    for trial in range(count):
        logs = noise(draw, BEFORE + WITHIN, sigma)
        logs = [log + (step if i >= BEFORE else 0.0) for i, log in enumerate(logs)]
        cut += [series(f"{trial}/{k}", logs[: BEFORE + k]) for k in range(creep.AFTER, WITHIN + 1)]
    first: dict[str, int] = {}
    for shift in creep.find(cut).shifts:
        trial, _, k = shift.name.partition("/")
        if shift.change > 0 and abs(int(shift.commit) - BEFORE) <= 3:
            first[trial] = min(first.get(trial, WITHIN), int(k))
    seen = sorted(first.values())
    return {
        "sigma": sigma, "step_sigmas": sigmas, "steps": count, "told": len(seen),
        "median_gates": statistics.median(seen) if seen else None, "missed_within": WITHIN,
    }  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    """Print both tables, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=200, help="of noise, each kind")
    parser.add_argument("--steps", type=int, default=50, help="planted, each size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(words)
    draw = random.Random(asked.seed)
    noises = [
        false_alarms(draw, asked.series, sigma, memory)
        for memory in (0.0, 0.5)
        for sigma in (0.006, 0.05)
    ]
    delays = [delay(draw, asked.steps, sigma, n) for sigma in (0.006, 0.05) for n in (2.0, 1.0)]
    if asked.json:
        json.dump({"seed": asked.seed, "noise": noises, "delay": delays}, sys.stdout, indent=1)
        return
    print(f"noise, {GATES} gates: share of series with a change told")
    for row in noises:
        print(
            f"  sigma {100 * row['sigma']:.1f} %, AR({row['memory']}): "
            f"{row['told']} of {row['series']} ({100 * row['share']:.1f} %)"
        )
    print(f"a step after {BEFORE} gates: told within {WITHIN}, and after how many (median)")
    for row in delays:
        print(
            f"  sigma {100 * row['sigma']:.1f} %, step {row['step_sigmas']:g} sigma: "
            f"{row['told']} of {row['steps']}, {row['median_gates']}"
        )


if __name__ == "__main__":
    main()
