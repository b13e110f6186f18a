"""How often is the accuracy gate wrong, and how many samples does it need? Made-up answers, no model.

    python benchmarks/gate/accuracy.py --out .benchmarks/gate/accuracy

1. Type I: pairs of right or wrong answers whose true drop is just the budget, drawn and judged by the
   gate's own `drops.cell`; and the same chance summed exactly (`samples.chances`).
2. Power and the number of samples needed, exact, for a candidate as good as the baseline.
3. Flips: the exact chance of either error at the budget.
4. Rows that are bootstrapped (BCa), of which a few make most of the drop.

Every setting's draws are kept in --out, one file a setting; one that is there is not drawn again.
Exit code 1: an error rate above 5 % and three standard errors where the design promises it (1).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from accel import disk
from accel.evidence import Budget
from accel.gating import drops, flips, samples
from accel.gating.drops import Rows

NS, MARGINS, DISCORDANCES = (500, 1000, 2000, 5000, 10_000), (0.005, 0.01), (0.01, 0.03, 0.08)
FLIP_NS, FLIP_LIMITS = (200, 1000, 5000), (0.01, 0.02, 0.05)
KINDS, ROW_NS = ("normal", "lognormal", "1 in 20", "1 in 100"), (20, 50, 100, 200, 500)
ALPHA = samples.ALPHA
Outcomes = dict[str, float]


def swapped(n: int, lost: int, won: int) -> Rows:
    """Right-or-wrong rows of which so many were lost and won."""
    a, b = np.ones(n), np.ones(n)
    a[lost : lost + won], b[:lost] = 0, 0
    return Rows(a, b, mean)


def mean(rows: Any) -> float:
    """In points of a hundred."""
    return float(100 * np.mean(rows))


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What the file holds, or what is made now and kept there."""
    if not path.exists():
        disk.write(path, json.dumps(make()))
    return json.loads(path.read_text())


def pairs(out: Path, n: int, margin: float, discordance: float, runs: int) -> Outcomes:
    """Shares of PASS and FAIL at a true drop of the margin; the tables that were drawn are kept."""

    def draw() -> list[list[int]]:
        lost, won = (discordance + margin) / 2, (discordance - margin) / 2
        drawn = np.random.default_rng([n, round(1e5 * margin), round(1e5 * discordance)])
        tables = drawn.multinomial(n, [1 - lost - won, lost, won], size=runs)[:, 1:]
        kinds, counts = np.unique(tables, axis=0, return_counts=True)
        return [[int(x), int(y), int(c)] for (x, y), c in zip(kinds, counts, strict=True)]

    tables = kept(out / f"pairs-{n}-{margin:g}-{discordance:g}-{runs}.json", draw)
    budget = Budget("drop", 100 * margin, "pt")
    judged = [(drops.cell(budget, swapped(n, x, y)).outcome, c) for x, y, c in tables]
    return {
        kind: sum(c for outcome, c in judged if outcome == kind) / runs for kind in ("pass", "fail")
    }


def flipped(n: int, limit: float) -> Outcomes:
    """Exact chances of PASS and FAIL where the true rate is the budget."""
    counts = np.arange(n + 1)
    weights = binom.pmf(counts, n, limit)
    likely = [k for k in counts if weights[k] > 1e-12]
    judged = {k: flips.cell(Budget("flips", limit, "%"), np.arange(n) < k).outcome for k in likely}
    return {
        kind: float(sum(weights[k] for k, outcome in judged.items() if outcome == kind))
        for kind in ("pass", "fail")
    }


def rows(out: Path, kind: str, n: int, runs: int) -> Outcomes:
    """How often each limit of a bootstrapped drop misses the truth."""

    def draw() -> list[list[float]]:
        drawn = np.random.default_rng([KINDS.index(kind), n])
        limits = []
        for _ in range(runs):
            b = -_losses(kind, n, drawn) - 1e-6 * drawn.random(n)  # no two outputs quite the same
            found = drops.cell(Budget("drop", 1.0, "pt"), Rows(np.zeros(n), b, mean))
            limits.append([found.low or 0.0, found.high or 0.0])
        return limits

    name = kind.replace(" ", "-")
    limits = np.array(kept(out / f"rows-{name}-{n}-{runs}.json", draw))
    true = (
        100 * {"normal": 0.0, "lognormal": np.exp(0.5), "1 in 20": 0.025, "1 in 100": 0.005}[kind]
    )
    return {
        "pass": float(np.mean(limits[:, 1] < true)),
        "fail": float(np.mean(limits[:, 0] > true)),
    }


def _losses(kind: str, n: int, drawn: np.random.Generator) -> Any:
    if kind == "normal":
        return drawn.normal(size=n)
    if kind == "lognormal":
        return drawn.lognormal(size=n)
    return (drawn.random(n) < 1 / int(kind.split()[-1])) * drawn.random(n)


def type_one(out: Path, runs: int) -> tuple[list[str], float]:
    """The table of 1, and by how many standard errors the worst PASS or FAIL lies above 5 %."""
    se = (ALPHA * (1 - ALPHA) / runs) ** 0.5
    lines, worst = [], -np.inf
    for n, margin, discordance in itertools.product(NS, MARGINS, DISCORDANCES):
        drawn = pairs(out, n, margin, discordance, runs)
        exact = samples.chances(n, margin, discordance, drop=margin)
        none = samples.chances(n, margin, discordance)[1]
        worst = max(worst, *((rate - ALPHA) / se for rate in drawn.values()))
        lines.append(
            f"| {n:,} | {100 * margin:g} pt | {100 * discordance:g} % | {drawn['pass']:.4f} "
            f"({exact[0]:.4f}) | {drawn['fail']:.4f} ({exact[1]:.4f}) | {none:.5f} |"
        )
    head = "| samples | budget | changed | PASS at the budget, drawn (exact) | FAIL at the budget, drawn (exact) | FAIL at no drop, exact |"
    return [head, "|---|---|---|---|---|---|", *lines], worst


def power() -> Iterator[str]:
    """The table of 2."""
    yield "| budget | changed | " + " | ".join(f"{n:,}" for n in NS) + " | needed for 90 % |"
    yield "|---|---|" + "---|" * (len(NS) + 1)
    for margin, discordance in itertools.product(MARGINS, DISCORDANCES):
        shares = [samples.chances(n, margin, discordance)[0] for n in NS]
        told = " | ".join(f"{share:.2f}" for share in shares)
        least = samples.needed(margin, discordance)
        yield f"| {100 * margin:g} pt | {100 * discordance:g} % | {told} | {least:,} |"


def table(head: str, found: Iterator[tuple[str, Outcomes]]) -> Iterator[str]:
    """Of 3 and 4."""
    yield f"| {head} | PASS or upper limit wrong | FAIL or lower limit wrong |"
    yield "|---|---|---|"
    for name, rates in found:
        yield f"| {name} | {rates['pass']:.4f} | {rates['fail']:.4f} |"


def main() -> int:
    """Draw what is missing, print all four tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".benchmarks/gate/accuracy"))
    parser.add_argument("--runs", type=int, default=20_000, help="pairs of models a setting")
    parser.add_argument("--row-runs", type=int, default=500, help="bootstraps a setting")
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    lines, worst = type_one(words.out, words.runs)
    print(f"1. Type I at the budget, {words.runs:,} pairs a setting\n", *lines, sep="\n")
    print("\n2. Power at no drop\n", *power(), sep="\n")
    settings = itertools.product(FLIP_NS, FLIP_LIMITS)
    counted = ((f"{n:,} samples, {100 * p:g} %", flipped(n, p)) for n, p in settings)
    print("\n3. Flips at the budget, exact\n", *table("samples, budget", counted), sep="\n")
    drawn = (
        (f"{kind}, {n}", rows(words.out, kind, n, words.row_runs))
        for kind, n in itertools.product(KINDS, ROW_NS)
    )
    title = f"\n4. Bootstrapped rows, {words.row_runs:,} sets a setting\n"
    print(title, *table("bad rows, rows", drawn), sep="\n")
    print(f"\nworst of 1: {worst:+.1f} standard errors from 5 %; 3 are allowed")
    return int(worst > 3)


if __name__ == "__main__":
    sys.exit(main())
