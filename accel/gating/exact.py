"""Cells that are counted: bytes, nodes, nodes that fell or slipped, copies. No statistics.

Nodes and copies are those that the runtime told of the built plan (`accel.placement`). Engines fuse
each in their own way, so across two engines a count says little, and the reason names both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from accel import placement
from accel.evidence import EXACT, Budget, Cell, Subject
from accel.values import Placed, Placement, Plan

MOST = 4  # operators that are named in a reason
PLACED = tuple(metric for metric in EXACT if metric != "size")  # what a placement answers
OFF: Mapping[str, Callable[[Placement], tuple[Placed, ...]]] = {
    "nodes_fallen": placement.fallen,
    "nodes_slipped": placement.slipped,
}


def cells(candidate: Subject, baseline: Subject, budgets: Sequence[Budget]) -> tuple[Cell, ...]:
    """A cell for each budget of EXACT, all against this baseline: more than the baseline's and the
    limit is a FAIL. The limit is a count (bytes for "size"), or with "%" a share of the baseline's.

    Where an engine does not tell its placement: cannot tell, with the reason."""
    return tuple(_cell(candidate, baseline, b) for b in budgets if b.metric in EXACT)


def held(
    candidate: Subject, baseline: Subject, budgets: Sequence[Budget], own: Sequence[Budget]
) -> tuple[tuple[Budget, ...], tuple[str, ...]]:
    """The budgets, and a note: where neither engine tells its placement, accel's `own` budgets on it
    are only watched, for no epoch would ever answer them."""
    silent = all(side.plan and side.plan.placement is None for side in (candidate, baseline))
    mute = [b for b in budgets if silent and b in own and b.metric in PLACED and b.mode == "gate"]
    if not mute:
        return tuple(budgets), ()
    names = " and ".join(b.metric for b in mute)
    note = f"{names}: only watched, since neither engine tells where its nodes run"
    watch = {b: dataclasses.replace(b, mode="watch") for b in mute}
    return tuple(watch.get(b, b) for b in budgets), (note,)


def _cell(candidate: Subject, baseline: Subject, budget: Budget) -> Cell:
    there, here = (_value(s, budget.metric) for s in (baseline, candidate))
    if isinstance(there, str) or isinstance(here, str):
        return Cell(
            budget,
            "cannot tell",
            there if isinstance(there, str) else str(here),
            value=None if isinstance(here, str) else here,
            baseline=None if isinstance(there, str) else there,
        )
    allowed = there + budget.limit * (there if budget.unit == "%" else 1)
    return Cell(
        budget,
        "fail" if here > allowed else "pass",
        _reason(candidate, baseline, budget, there, here),
        ratio=here / there if there else None,
        value=here,
        baseline=there,
    )


def _value(subject: Subject, metric: str) -> float | str:
    """The number, or why there is none."""
    if metric == "size":
        return float(subject.size_bytes)
    plan = subject.plan
    if plan is None:
        return f"{subject.name}: {subject.trouble or 'there is no plan to read'}"
    if plan.placement is None:
        return (
            f"{subject.name}: {plan.engine} does not tell where its nodes run; "
            f'{metric} = "off" in accel.toml takes the budget away; or build with an engine that does'
        )
    return float(placement.metrics(plan.placement)[metric])


def _reason(
    candidate: Subject, baseline: Subject, budget: Budget, there: float, here: float
) -> str:
    limit = f"{100 * budget.limit:g} %" if budget.unit == "%" else f"{budget.limit:g}"
    told = [f"{there:,.0f} -> {here:,.0f}, budget +{limit}"]
    if candidate.plan is None or baseline.plan is None or budget.metric == "size":
        return told[0]
    if budget.metric in OFF:
        told += _new(candidate.plan, baseline.plan, OFF[budget.metric])
    told += [_census(candidate.plan, baseline.plan)]
    if candidate.plan.engine != baseline.plan.engine:
        told += [
            f"{candidate.plan.engine} against {baseline.plan.engine}: each fuses in its own way"
        ]
    return "; ".join(t for t in told if t)


def _new(
    candidate: Plan, baseline: Plan, off: Callable[[Placement], tuple[Placed, ...]]
) -> list[str]:
    """Operators of which more are not as planned than in the baseline, and where they went."""
    had, has = (_counts(off(p.placement)) if p.placement else {} for p in (baseline, candidate))
    grown = [f"{what} +{n - had.get(what, 0)}" for what, n in has.items() if n > had.get(what, 0)]
    more = f" and {len(grown) - MOST} more" if len(grown) > MOST else ""
    return [", ".join(grown[:MOST]) + more] if grown else []


def _counts(rows: Sequence[Placed]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        asked, runs = (
            (row.planned_device, row.device)
            if row.planned_device not in ("", row.device)
            else (row.planned_dtype, row.dtype or "unknown")
        )
        what = f"{row.operator} ({asked} -> {runs})"
        found[what] = found.get(what, 0) + row.count
    return found


def _census(candidate: Plan, baseline: Plan) -> str:
    """Nodes by the precision that they compute in, where that changed: "int8 36 -> 32"."""
    there, here = (
        placement.census(p.placement) if p.placement else {} for p in (baseline, candidate)
    )
    return ", ".join(
        f"{dtype} {there.get(dtype, 0)} -> {here.get(dtype, 0)}"
        for dtype in {**there, **here}
        if there.get(dtype, 0) != here.get(dtype, 0)
    )
