"""The same traces, judged by other tools' rules: false alarms and power in one table.

    python benchmarks/gate/rules.py benchmarks/gate/traces/minilm-idle-aa.csv

`apart`: the candidate's processes ran just after the baseline's; `stored`: long after, against the
stream's first ones; `beside`: in the same epochs, interleaved by accel's instrument, which none of
these tools does by itself (asv takes turns by process). Comparisons share no epoch, but for the stored
baseline. Each rule gets the weighted p50 of every round, so the
tail of single calls, which a mean would feel, is gone: that is in the rules' favour. Slowdowns of an
A/A stream are the candidate's rounds times 1.05 or 1.10; those of a power stream really ran.
Alarms of "slower" alone are counted; a rule that tests both ways errs as often the other way. accel's
lines say how often it says FAIL, and how often neither FAIL nor PASS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cuts
import numpy as np
import others
import stream
import told
from told import percent

from accel.evidence import BASELINE, CANDIDATE, SHADOW, Epoch, Rules

SLOWDOWNS = (0.0, 0.05, 0.10)
OURS = (0.03, 0.05)  # budgets of the gate's own lines


def main() -> None:
    """Judge by every rule, print."""
    parser = told.parser(__doc__)
    parser.add_argument("trace", nargs="+", type=Path)
    asked = parser.parse_args()
    streams = [stream.read(path) for path in asked.trace]
    results = {s.name: list(lines(s)) for s in streams}
    on = told.provenance({s.name: s.header for s in streams})
    told.show(asked.json, on, results, text(results))


def lines(recorded: stream.Stream) -> Iterator[dict[str, Any]]:
    """A line for each rule and way to pair, with the alarms at each slowdown."""
    slowed = slowdowns(recorded)
    for rule in others.OTHERS:
        for way in rule.ways:
            counts = {str(share): alarms(rule, epochs, way) for share, epochs in slowed.items()}
            told_of = {"rule": rule.name, "way": way, "given": rule.given, "source": rule.source}
            yield {**told_of, "alarms": counts}
    for limit in OURS:
        yield _ours(limit, slowed)


def slowdowns(recorded: stream.Stream) -> dict[float, list[Epoch]]:
    """Slowdown -> epochs with that candidate: recorded where the stream has it, else shifted."""
    arms = recorded.arms
    if "lag0" not in arms:
        straight = stream.cast(recorded.epochs, CANDIDATE, SHADOW)
        return {share: stream.shifted(straight, share) for share in SLOWDOWNS}
    named = {share: f"lag{100 * share:.0f}" for share in SLOWDOWNS}
    return {
        share: stream.cast(recorded.epochs, arm, None if arm == "lag0" else "lag0")
        for share, arm in named.items()
        if arm in arms
    }


def alarms(rule: others.Other, epochs: Sequence[Epoch], way: str) -> tuple[int, int]:
    """(how often it says "slower", comparisons)."""
    base, cand = (_times(epochs, arm) for arm in (BASELINE, CANDIDATE))
    k, said = rule.processes, []
    for theirs, mine in _windows(len(epochs), k, way):
        said.append(rule.slower(base[theirs : theirs + k], cand[mine : mine + k]))
    return sum(said), len(said)


def _windows(n: int, k: int, way: str) -> list[tuple[int, int]]:
    """First epochs of the baseline's and of the candidate's k."""
    if way == "stored":
        return [(0, first) for first in range(k, n - k + 1, k)]
    step, later = (2 * k, k) if way == "apart" else (k, 0)
    return [(first, first + later) for first in range(0, n - step + 1, step)]


def _times(epochs: Sequence[Epoch], arm: str) -> np.ndarray[Any, Any]:
    """[epochs, rounds] seconds."""
    return np.asarray([e.rounds_s[arm] for e in epochs])


def _ours(limit: float, slowed: Mapping[float, Sequence[Epoch]]) -> dict[str, Any]:
    counts, neither = {}, {}
    for share, epochs in slowed.items():
        found = cuts.cut(epochs, cuts.budgets(limit), Rules())
        counts[str(share)] = (sum(g.outcome == "fail" for g in found), len(found))
        neither[str(share)] = sum(g.outcome not in ("fail", "pass") for g in found)
    return {
        "rule": f"accel gate, budget {percent(limit, 0)}",
        "way": "beside",
        "given": "epochs until it is done, 40 at most",
        "source": "accel.gating.decision.judge",
        "alarms": counts,
        "neither": neither,
    }


def text(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One table a stream, then what each rule was given."""
    parts = [f"{name}\n{_table(found)}" for name, found in results.items()]
    first = next(iter(results.values()), [])
    given = {f["rule"]: f"  {f['rule']}: {f['given']}. {f['source']}." for f in first}
    return "\n\n".join([*parts, "What each was given, and where the rule was read:"]) + (
        "\n" + "\n".join(given.values())
    )


def _table(found: Sequence[Mapping[str, Any]]) -> str:
    shares = list(found[0]["alarms"])
    head = ["rule", "pairing", "comparisons", "false alarms", "95 %"]
    head += [f"finds +{percent(float(s), 0)}" for s in shares if float(s)]
    rows = []
    for one in found:
        count, n = one["alarms"].get("0.0", (0, 0))
        low, high = told.bounds(count, n)
        row = [one["rule"], one["way"], n, _share(count, n, one, "0.0")]
        row += [f"{100 * low:.1f} to {100 * high:.1f}"]
        rows.append([*row, *(_share(*one["alarms"][s], one, s) for s in shares if float(s))])
    return told.table(head, rows)


def _share(count: int, n: int, one: Mapping[str, Any], share: str) -> str:
    if not n:
        return ""
    unsaid = one.get("neither", {}).get(share, 0)
    return percent(count / n) + (f" ({percent(unsaid / n, 0)} neither)" if unsaid else "")


if __name__ == "__main__":
    main()
