"""The same traces, judged by other tools' rules: false alarms and power in one table.

    python benchmarks/gate/rules.py benchmarks/gate/traces/minilm-idle-aa.csv

`apart`: the candidate's processes ran just after the baseline's; `stored`: long after, against the
stream's first ones; `beside`: in the same epochs, interleaved by accel's instrument, which none of
these tools does by itself (asv takes turns by process). Comparisons share no epoch, but for the stored
baseline. Each rule gets the weighted p50 of every round, so the tail of single calls, which a mean
would feel, is gone: that is in the rules' favour. With --recording, the folder that the A/A trace was
made from, the rules that look at one process also get every timed pass over all requests, as they
would if they had timed it themselves. Slowdowns of an A/A stream are the candidate's times multiplied
by 1.05 or 1.10; those of a power stream really ran.
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
    parser.add_argument("--recording", type=Path, help="of a single A/A trace: its every call")
    asked = parser.parse_args()
    streams = [stream.read(path) for path in asked.trace]
    results = {s.name: list(lines(s)) for s in streams}
    if asked.recording is not None:
        results[streams[0].name] += every_pass(streams[0], asked.recording)
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
    return _counted(rule, *([e.rounds_s[a] for e in epochs] for a in (BASELINE, CANDIDATE)), way)


def _counted(
    rule: others.Other, base: Sequence[Any], cand: Sequence[Any], way: str
) -> tuple[int, int]:
    """Of [processes][samples] seconds; those of several processes are equally many."""
    k, said = rule.processes, []
    for theirs, mine in _windows(len(base), k, way):
        said.append(
            rule.slower(np.asarray(base[theirs : theirs + k]), np.asarray(cand[mine : mine + k]))
        )
    return sum(said), len(said)


def every_pass(recorded: stream.Stream, folder: Path) -> Iterator[dict[str, Any]]:
    """The rules of one process again, each given every timed pass of a process."""
    if CANDIDATE not in recorded.arms:
        raise SystemExit(f"--recording wants an A/A trace; {recorded.name} has no candidate.")
    count = int(recorded.header["requests"])
    base, cand = (_passes(recorded, folder, arm, count) for arm in (BASELINE, CANDIDATE))
    for rule in (r for r in others.OTHERS if r.processes == 1):
        for way in rule.ways:
            counts = {
                str(share): _counted(rule, base, [x * (1 + share) for x in cand], way)
                for share in SLOWDOWNS
            }
            told_of = {"rule": f"{rule.name}, every pass", "way": way, "source": rule.source}
            yield {**told_of, "given": "every timed pass of one process", "alarms": counts}


def _passes(recorded: stream.Stream, folder: Path, arm: str, count: int) -> list[Any]:
    """Seconds of each whole pass over the requests, an array an epoch."""
    found = []
    for epoch in recorded.epochs:
        with np.load(folder / f"epoch-{epoch.number:05d}.npz", allow_pickle=False) as samples:
            found.append(samples[f"{arm}/ns"].reshape(-1, count).sum(1) * 1e-9)
    return found


def _windows(n: int, k: int, way: str) -> list[tuple[int, int]]:
    """First epochs of the baseline's and of the candidate's k."""
    if way == "stored":
        return [(0, first) for first in range(k, n - k + 1, k)]
    step, later = (2 * k, k) if way == "apart" else (k, 0)
    return [(first, first + later) for first in range(0, n - step + 1, step)]


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
