"""A/A: how often does the gate fail a candidate that is the baseline's own copy?

    python benchmarks/gate/aa.py benchmarks/gate/traces/*-aa.csv

Complete gates are cut from disjoint stretches of each stream and judged at each budget, by p50 alone
and with peak memory (5 %) and cold start (10 %) beside it. `fail <=` is the one-sided 95 % bound of
Clopper and Pearson for the share of false FAILs. The three arms of such a stream are one artefact:
lines with "swapped" let the shadow be the candidate. They use the same epochs again, are not
independent of the first line, and count for nothing in the bound.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cuts
import noise
import stream
import told
from told import percent, short

from accel.evidence import CANDIDATE, SHADOW, Rules

BUDGETS = (0.01, 0.02, 0.03, 0.05)
BLOCK_WAKE_S = 0.02  # dropped after a stopped worker goes on (accel.measure.process.WAKE_NS)


def main() -> None:
    """Cut, judge, print."""
    parser = told.parser(__doc__)
    parser.add_argument("trace", nargs="+", type=Path)
    parser.add_argument("--max-epochs", type=int, default=Rules().max_epochs)
    asked = parser.parse_args()
    rules = Rules(max_epochs=asked.max_epochs)
    streams = [stream.read(path) for path in asked.trace]
    results = {s.name: {"noise": noises(s), "gates": list(gates(s, rules))} for s in streams}
    on = told.provenance({s.name: s.header for s in streams})
    told.show(asked.json, on, results, text(results))


def gates(recorded: stream.Stream, rules: Rules) -> Iterator[dict[str, Any]]:
    """A line for each budget and family of cells, and one with the arms swapped."""
    straight = stream.cast(recorded.epochs, CANDIDATE, SHADOW)
    swapped = stream.cast(recorded.epochs, SHADOW, CANDIDATE)
    for family in cuts.FAMILIES:
        for limit in BUDGETS:
            found = cuts.cut(straight, cuts.budgets(limit, family), rules)
            yield {"cells": family, "budget": limit, **cuts.summary(found)}
    for limit in BUDGETS:
        found = cuts.cut(swapped, cuts.budgets(limit), rules)
        yield {"cells": "p50, swapped", "budget": limit, **cuts.summary(found)}


def noises(recorded: stream.Stream) -> dict[str, Any]:
    """The noise of an epoch, its cost, and how many rounds it should have."""
    epochs = stream.cast(recorded.epochs, CANDIDATE, SHADOW)
    found = noise.described(epochs)
    if "rounds" not in found:
        return found
    arms = statistics.median(len(e.rounds_s) for e in epochs)  # the shadow is not in each
    seconds = statistics.median(e.seconds for e in epochs)
    block_s = float(recorded.header.get("rules", {}).get("block_s", Rules().block_s))
    round_s = arms * (block_s + BLOCK_WAKE_S)
    fixed_s = seconds - found["rounds"] * round_s
    foreign = [e.covariates.get("foreign_cores", 0.0) for e in epochs]
    return {
        **found,
        "epoch_s": seconds,
        "foreign_cores": statistics.fmean(foreign),
        "best_rounds": noise.best_rounds(found, fixed_s, round_s),
    }


def text(results: dict[str, Any]) -> str:
    """Two tables a stream."""
    return "\n\n".join(
        f"{name}\n{_noise(found['noise'])}\n\n{_gates(found['gates'])}"
        for name, found in results.items()
    )


def _noise(found: dict[str, Any]) -> str:
    if "sigma_robust" not in found:
        return f"{found['epochs']} epochs: too few to tell anything"
    low, high = found["sigma_interval"]
    return "\n".join(
        (
            f"{found['epochs']} epochs of {found['epoch_s']:.2f} s (median), "
            f"{found['foreign_cores']:.2f} foreign cores (mean)",
            f"ln ratio of an epoch: median {percent(found['median'], 2)}, sigma "
            f"{percent(found['sigma_robust'], 2)} robust [{percent(low, 2)}, {percent(high, 2)}], "
            f"{percent(found['sigma_plain'], 2)} plain, largest {percent(found['largest'])}",
            f"rank autocorrelation, lag 1: {found['autocorrelation'] or 0:+.3f} "
            f"(95 % of white noise: +-{found['autocorrelation_noise']:.3f})",
            f"a round within an epoch: sigma {percent(found['sigma_round'], 2)} robust, "
            f"{percent(found['sigma_round_plain'], 2)} plain; between epochs "
            f"{percent(found['sigma_between_epochs'], 2)}; {found['rounds']} rounds were run, "
            f"{found['best_rounds']} would be best",
        )
    )


def _gates(found: Sequence[dict[str, Any]]) -> str:
    head = (
        "cells", "budget", "gates", "pass", "FAIL", "cannot tell", "unfit", "fail <=",
        "pass share", "epochs", "minutes", "longest",
    )  # fmt: skip
    rows = [
        (
            g["cells"],
            percent(g["budget"], 0),
            g["gates"],
            g["pass"],
            g["fail"],
            g["cannot tell"],
            g["unfit"],
            percent(g["fail_upper"], 2) if "swapped" not in g["cells"] else "",
            percent(g["pass_share"]),
            short(g["epochs_mean"], 1),
            short(g["minutes_mean"], 2),
            short(g["minutes_most"], 2),
        )
        for g in found
    ]
    return told.table(head, rows)


if __name__ == "__main__":
    main()
