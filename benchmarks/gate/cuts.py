"""Complete gates, cut from a recorded stream: each takes epochs until the judgement is done.

The next gate begins where the one before ended, so no two share an epoch; what is left at the end
of the stream is no gate and is not counted.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import told

from accel.evidence import Budget, Epoch, Rules
from accel.gating.budgets import DEFAULT
from accel.gating.decision import judge

FAMILIES: dict[str, tuple[str, ...]] = {  # what gates beside p50, at accel's own limits
    "p50": (),
    "p50, memory": ("peak_memory",),  # accel's default
    "p50, memory, cold start": ("peak_memory", "cold_start"),
}
LIMITS = {b.metric: b.limit for b in DEFAULT}


@dataclass(frozen=True)
class Gate:
    """One gate that came to its end."""

    outcome: str
    first: int  # index of its first epoch in the stream
    epochs: int
    seconds: float


def budgets(limit: float, family: str = "p50") -> tuple[Budget, ...]:
    """p50 at `limit`, and the family's other cells."""
    return (Budget("p50", limit), *(Budget(m, LIMITS[m]) for m in FAMILIES[family]))


def cut(epochs: Sequence[Epoch], cells: Sequence[Budget], rules: Rules) -> list[Gate]:
    """Every whole gate in the stream, one after another."""
    gates: list[Gate] = []
    first = 0
    while (found := _gate(epochs, first, cells, rules)) is not None:
        gates.append(found)
        first += found.epochs
    return gates


def _gate(
    epochs: Sequence[Epoch], first: int, cells: Sequence[Budget], rules: Rules
) -> Gate | None:
    for count in range(1, rules.max_epochs + 1):
        if first + count > len(epochs):
            return None
        seen = epochs[first : first + count]
        found = judge(seen, cells, rules)
        if found.done or count == rules.max_epochs:
            return Gate(found.outcome, first, count, sum(e.seconds for e in seen))
    return None


def summary(gates: Sequence[Gate]) -> dict[str, Any]:
    """How often each outcome came, and what a verdict cost."""
    n, outcomes = len(gates), Counter(g.outcome for g in gates)
    decided = [g for g in gates if g.outcome in ("pass", "fail")]
    return {
        "gates": n,
        **{name: outcomes[name] for name in ("pass", "fail", "cannot tell", "unfit")},
        "fail_upper": told.upper(outcomes["fail"], n) if n else 1.0,
        "fail_bounds": told.bounds(outcomes["fail"], n),
        "pass_share": outcomes["pass"] / n if n else None,
        "epochs_mean": statistics.fmean(g.epochs for g in gates) if n else None,
        "minutes_mean": statistics.fmean(g.seconds for g in gates) / 60 if n else None,
        "minutes_most": max(g.seconds for g in gates) / 60 if n else None,
        "minutes_decided": statistics.fmean(g.seconds for g in decided) / 60 if decided else None,
    }
