"""The noise zoo: the gate's false alarms, its intervals and its power on made-up machines.

    python benchmarks/gate/zoo.py [--runs 20000]

Seeded, nothing is measured. The first table: identical arms (or a candidate exactly at its budget)
in every kind of noise of machines.py: runs with a false FAIL and a false PASS, how often the 95 %
interval holds the truth at the last epoch (it never moves outwards, so at every one), and how often
the runs test calls the machine unfit at some epoch. The second: five cells of one family. The third: FAIL
and PASS of a candidate that is slower by so much, beside what the design foresaw. Exit code 1: a false
alarm above its level, or a coverage below, by more than three standard errors.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping

import machines
import numpy as np
from machines import Array, Draw

from accel.gating import signs
from accel.gating.decision import holm
from accel.gating.fitness import ALPHA_RUNS
from accel.gating.power import runs_p
from accel.gating.timed import LEAST

SEED = 20_261
EPOCHS = 40
ALPHA_FAIL, ALPHA_PASS, LEVEL = 0.01, 0.05, 0.95
CHUNK = 2000  # runs at a time, for memory
ASSUMED = "not covered: epochs that depend on each other"
RUNS_TESTED = 2000  # of the runs, by the runs test, which is slow to repeat at every epoch

# the design's own simulation, P(FAIL) / P(PASS) / mean epochs: budget, sigma -> true ratio -> figures
TRUE = (1.00, 1.02, 1.05, 1.10)
FORESEEN: Mapping[tuple[float, float], tuple[str, ...]] = {
    (1.01, 0.003): ("0/1/7", "1/0/10", "1/0/9", "1/0/9"),
    (1.01, 0.01): ("0/.98/16", ".91/0/22", "1/0/10", "1/0/9"),
    (1.01, 0.02): ("0/.52/31", ".28/0/36", "1/0/12", "1/0/9"),
    (1.02, 0.02): ("0/.98/16", "at b", ".998/0/15", "1/0/10"),
    (1.03, 0.01): ("0/1/8", "0/.98/16", "1/0/12", "1/0/9"),
    (1.03, 0.02): ("0/1/10", "0/.51/30", ".89/0/23", "1/0/10"),
    (1.03, 0.04): ("0/.86/22", "0/.15/37", ".26/0/36", "1/0/13"),
    (1.05, 0.04): ("0/1/12", "0/.84/23", "at b", ".98/0/18"),
}


def kinds(draw: Draw, runs: int, epochs: int = EPOCHS) -> Iterator[tuple[str, Array]]:
    """Each kind of noise and [runs, epochs] ln ratios over the budget's, the median 0."""
    for name, blocks in machines.BLOCKS.items():
        yield (
            name,
            _stacked(lambda n, f=blocks: machines.paired(f(draw, _slots(n, epochs)), draw), runs),
        )
    yield (
        "process effect",
        _stacked(
            lambda n: machines.paired(machines.normal(draw, _slots(n, epochs)), draw, 3.0), runs
        ),
    )
    yield "modes", machines.modes(draw, runs, epochs)
    yield "skewed", machines.skewed(draw, runs, epochs)
    yield ASSUMED, machines.dependent(draw, runs, epochs)


def _slots(runs: int, epochs: int) -> machines.Slots:
    return runs, epochs, machines.ROUNDS, 2


def _stacked(make: Callable[[int], Array], runs: int) -> Array:
    return np.concatenate([make(min(CHUNK, runs - k)) for k in range(0, runs, CHUNK)])


def first(beyond: Array, alpha: float) -> Array:
    """The epoch at which each run [runs, epochs] of 0 and 1 crosses, inf where it does not."""
    bars = [signs.needed(n, alpha) or math.inf for n in range(1, beyond.shape[1] + 1)]
    crossed = np.cumsum(beyond, axis=1) >= np.asarray(bars)
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1.0, np.inf)


def judged(logs: Array) -> tuple[float, float, float]:
    """P(false FAIL), P(false PASS) and coverage of the interval, by the gate's own functions."""
    fails = passes = covered = 0
    for run in logs.tolist():
        seen = signs.run(run, 0.0)
        low, high = signs.interval(run, 1 - LEVEL)
        fails += seen.e_worse >= 1 / ALPHA_FAIL
        passes += seen.e_better >= 1 / ALPHA_PASS
        covered += low <= 0.0 <= high
    return fails / len(logs), passes / len(logs), covered / len(logs)


def unfit(logs: Array) -> float:
    """P(the runs test, looked at after each epoch from the eighth on, ever says unfit)."""
    looks = range(LEAST, logs.shape[1] + 1)
    return float(
        np.mean([any((runs_p(y[:n]) or 1.0) < ALPHA_RUNS for n in looks) for y in logs.tolist()])
    )


def family(draw: Draw, runs: int, cells: int = 5) -> float:
    """P(any false FAIL) of cells that share half of their noise, each exactly at its budget."""
    shared = machines.student(draw, 1.0, (runs, EPOCHS, 1))
    logs = shared + machines.student(draw, 1.0, (runs, EPOCHS, cells))
    false = 0
    for run in logs:
        p = [min(1.0, 1 / signs.run(run[:, k].tolist(), 0.0).e_worse) for k in range(cells)]
        false += min(holm(p)) <= ALPHA_FAIL
    return false / runs


def characteristic(
    draw: Draw, budget: float, sigma: float, true: float, runs: int
) -> tuple[float, float, float]:
    """P(FAIL), P(PASS) and mean epochs of a gate of one cell that stops at its verdict."""
    logs = math.log(true) + machines.student(draw, sigma, (runs, EPOCHS))
    c = math.log(budget)
    failed = first(np.asarray(logs > c, np.float64), ALPHA_FAIL)
    passed = first(np.asarray(logs < c, np.float64), ALPHA_PASS)
    stop = np.minimum(np.maximum(np.minimum(failed, passed), LEAST), EPOCHS)
    fail, ok = failed <= stop, passed <= stop
    return float(fail.mean()), float((ok & ~fail).mean()), float(stop.mean())


def above(share: float, level: float, runs: int) -> bool:
    """Whether a share of runs lies above a level by more than three standard errors."""
    return share > level + 3 * math.sqrt(level * (1 - level) / runs)


def main() -> int:
    """Print the tables; 1 where a level is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=20_000)
    runs = parser.parse_args().runs
    draw = np.random.default_rng(SEED)
    bad = []
    print(f"{runs} runs of {EPOCHS} epochs each; FAIL at {ALPHA_FAIL:g}, PASS at {ALPHA_PASS:g}\n")
    print(
        "| noise | false FAIL | false PASS | coverage | unfit by the runs test |\n|---|---|---|---|---|"
    )
    for name, logs in kinds(draw, runs):
        fail, ok, covered = judged(logs)
        print(
            f"| {name} | {fail:.4f} | {ok:.4f} | {covered:.4f} | {unfit(logs[:RUNS_TESTED]):.3f} |"
        )
        over = above(fail, ALPHA_FAIL, runs) or above(ok, ALPHA_PASS, runs)
        if name != ASSUMED and (over or above(1 - covered, 1 - LEVEL, runs)):
            bad.append(name)
    blocks = _stacked(
        lambda n: machines.fixed_order(machines.autoregressive(draw, _slots(n, EPOCHS))), runs
    )
    print(f"| autoregressive, without the coin | {judged(blocks)[0]:.4f} | | | |")
    any_false = family(draw, runs)
    print(
        f"\nfive cells at their budgets: any false FAIL {any_false:.4f}, allowed {ALPHA_FAIL:g}\n"
    )
    if above(any_false, ALPHA_FAIL, runs):
        bad.append("family")
    print("P(FAIL)/P(PASS)/mean epochs; after it, what the design foresaw\n")
    print(
        "| b | sigma | "
        + " | ".join(f"true {t:.2f}" for t in TRUE)
        + " |\n|---|---|---|---|---|---|"
    )
    for (budget, sigma), foreseen in FORESEEN.items():
        cells = []
        for true, before in zip(TRUE, foreseen, strict=True):
            fail, ok, mean = characteristic(draw, budget, sigma, true, runs)
            cells.append(f"{fail:.3f}/{ok:.3f}/{mean:.1f} ({before})")
        print(f"| {budget} | {100 * sigma:g} % | " + " | ".join(cells) + " |")
    print(f"\nlevels not kept: {', '.join(bad) or 'none'}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
