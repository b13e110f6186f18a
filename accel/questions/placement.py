"""accel inspect RELEASE --placement: where the nodes run, and in which precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accel import placement as ledger
from accel import release
from accel.errors import Unmeasured
from accel.plain import shown
from accel.values import Placement


@dataclass(frozen=True)
class Where:
    """One candidate's placement, and the numbers of it that a gate can hold."""

    name: str
    engine: str
    placement: Placement
    metrics: Mapping[str, float]


def placement(path: Path) -> tuple[Where, ...]:
    """Of every candidate of a release whose engine tells, the winner first.

    Raises UsageError when the folder is not a release, Unmeasured where no engine told."""
    found = release.read(path)
    plans = {c.name: c.plan for c in (found.winner, *found.table) if c.plan is not None}
    told = tuple(
        Where(name, plan.engine, plan.placement, ledger.metrics(plan.placement))
        for name, plan in plans.items()
        if plan.placement is not None
    )
    if not told:
        engines = ", ".join(sorted({plan.engine for plan in plans.values()}))
        raise Unmeasured(
            f"{path} holds no placement (engines: {shown(engines, keep='') or 'none was built'}). Build it again with an engine that "
            f"tells; see: accel list engines"
        )
    return told
