"""Power: how often, and how soon, does the gate find a slowdown of known size?

    python benchmarks/gate/power.py benchmarks/gate/traces/minilm-idle-power.csv

Lines with "recorded" are arms that really ran slower: `lag5` stretches each call by 5 % with a spin,
`nodes` has more nodes in its graph, `one_thread` a thread fewer, `unfused` no graph optimization. The
shadow is `lag0`, a copy that nothing was done to. Lines with "shifted" are an unslowed candidate
whose times were multiplied afterwards: exact in size, but no real slowdown. `ratio` is the median
over all epochs. Minutes are a gate's with its own arms: an epoch's wall clock is shared out evenly
over the arms that were recorded in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cuts
import noise
import numpy as np
import stream
import told
from told import percent, short

from accel.evidence import BASELINE, CANDIDATE, SHADOW, Epoch, Rules

BUDGETS = (0.01, 0.03, 0.05)
SHIFTS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.10)
COPY = "lag0"  # the arm of a power stream that is the baseline's own copy


def main() -> None:
    """Judge every arm at every budget, print."""
    parser = told.parser(__doc__)
    parser.add_argument("trace", nargs="+", type=Path)
    parser.add_argument("--max-epochs", type=int, default=Rules().max_epochs)
    asked = parser.parse_args()
    rules = Rules(max_epochs=asked.max_epochs)
    streams = [stream.read(path) for path in asked.trace]
    results = {s.name: list(lines(s, rules)) for s in streams}
    on = told.provenance({s.name: s.header for s in streams})
    told.show(asked.json, on, results, text(results))


def lines(recorded: stream.Stream, rules: Rules) -> Iterator[dict[str, Any]]:
    """A line for each slowdown and budget."""
    for how, arm, epochs in candidates(recorded):
        y = noise.logs(epochs)
        ratio = math.exp(float(np.median(y))) - 1 if len(y) else None
        for limit in BUDGETS:
            found = cuts.cut(epochs, cuts.budgets(limit), rules)
            yield {
                "how": how,
                "arm": arm,
                "ratio": ratio,
                "budget": limit,
                **cuts.summary(found),
            }


def candidates(recorded: stream.Stream) -> Iterator[tuple[str, str, list[Epoch]]]:
    """(how, arm, epochs with it as the candidate): recorded arms, then shifted copies."""
    arms = set(recorded.arms)
    same, shadow = (COPY, None) if COPY in arms else (CANDIDATE, SHADOW)
    for arm in recorded.arms:
        if arm not in (BASELINE, SHADOW, CANDIDATE):
            beside = COPY if COPY in arms and arm != COPY else None
            yield "recorded", arm, stream.cast(recorded.epochs, arm, beside)
    if same in arms:
        straight = stream.cast(recorded.epochs, same, shadow)
        for share in SHIFTS:
            yield "shifted", f"+{percent(share, 0)}", stream.shifted(straight, share)


def text(results: dict[str, Any]) -> str:
    """One table a stream."""
    return "\n\n".join(f"{name}\n{_table(found)}" for name, found in results.items())


def _table(found: list[dict[str, Any]]) -> str:
    head = (
        "how", "arm", "ratio", "budget", "gates", "FAIL", "share", "95 %", "pass",
        "cannot tell", "unfit", "epochs", "minutes",
    )  # fmt: skip
    rows = []
    for one in found:
        low, high = one["fail_bounds"]
        share = one["fail"] / one["gates"] if one["gates"] else None
        rows.append(
            (
                one["how"],
                one["arm"],
                percent(one["ratio"], 2),
                percent(one["budget"], 0),
                one["gates"],
                one["fail"],
                percent(share, 0),
                f"{100 * low:.0f} to {100 * high:.0f}",
                one["pass"],
                one["cannot tell"],
                one["unfit"],
                short(one["epochs_mean"], 1),
                short(one["minutes_mean"], 2),
            )
        )
    return told.table(head, rows)


if __name__ == "__main__":
    main()
