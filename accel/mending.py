"""The stage between scores and final: int8 that is quick but over the budget is mended (see mixing)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from accel import artefacts, mixing, trials
from accel.constraints import Constraints
from accel.job import Job
from accel.stages import Event, Progress
from accel.values import Candidate, Model, Plan


def mix(
    job: Job,
    roots: Mapping[str, Model],
    table: Sequence[Candidate],
    constraints: Constraints,
    yardstick: Plan,
    minutes: float,
    progress: Progress,
) -> tuple[Candidate, ...]:
    """Mend full int8 that is quick but over the budget: put back what it takes, and no more.

    `minutes`: for all of it. The table with what came of it."""
    bases = mixing.worth_mending(table, constraints)
    baseline = trials.score(job, yardstick, "search", yardstick) if bases else None
    found = list(table)
    for i, base in enumerate(bases):
        engine, _ = artefacts.engine(job, base.engine)
        if engine is None or baseline is None:
            continue
        told = f"mend {base.name}: {base.reason}"
        progress(Event("phase", told, done=i, total=len(bases)))
        bench = mixing.Bench(
            job, roots, engine, base, baseline, yardstick, constraints.budget(baseline.value),
            time.monotonic() + 60 * minutes / len(bases),
            lambda text: progress(Event("phase", f"mend: {text}")),
            minutes=minutes / len(bases),
        )  # fmt: skip
        for row in mixing.mend(bench):
            progress(Event("candidate", row.reason, row))
            found.append(row)
    return tuple(found)
