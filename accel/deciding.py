"""The stage of the decision: final after final until one has a winner that holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from accel import certifying, finals, heats, search
from accel.constraints import Constraints
from accel.errors import ConstraintError, Unmeasured
from accel.job import Job
from accel.stages import Event, Progress
from accel.values import Candidate, Certificate, Plan


def decide(
    job: Job,
    table: Sequence[Candidate],
    constraints: Constraints,
    yardstick: Plan,
    progress: Progress,
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...], Candidate, Certificate]:
    """Final after final until one has a winner: the table, the baselines, the winner, its proof.

    Raises ConstraintError with the nearest candidates when nobody is left to measure, Unmeasured where
    a speed-up was demanded over fp32 and that has no time."""
    table = heat(job, table, constraints, progress)
    while final := search.finalists(table, constraints):
        table = certifying.held(job, table, final, constraints, yardstick, progress)
        if search.finalists(table, constraints) != final:
            continue  # others come up for those that were refused
        table, baselines = measure(job, table, final, yardstick, progress)
        if constraints.min_speedup is not None and _fp32_s(baselines) is None:
            told = tuple(search.constrain(c, constraints, None) for c in table)
            raise Unmeasured(search.nearest(told, constraints))  # no other final would tell
        table, chosen = choose(job, table, baselines, constraints, yardstick, progress)
        if chosen is not None:
            table = search.leave(table, constraints)
            for row in table:
                if row.measurement is not None or row.status == "pruned":
                    progress(Event("candidate", row.reason, row))
            return table, baselines, *chosen
    raise ConstraintError(search.nearest(table, constraints))


def heat(
    job: Job, table: Sequence[Candidate], constraints: Constraints, progress: Progress
) -> tuple[Candidate, ...]:
    """Time the contenders for the final together, where screening leaves it open who they are."""
    if not (near := search.contenders(table, constraints)):
        return tuple(table)
    progress(Event("phase", f"heat of {len(near)} candidates"))
    found = heats.heat(job, near, lambda text: progress(Event("phase", f"heat: {text}")))
    for row in found.values():
        progress(Event("candidate", row.reason, row))
    return tuple(found.get(c.name, c) for c in table)


def measure(
    job: Job,
    table: Sequence[Candidate],
    final: Sequence[Candidate],
    yardstick: Plan,
    progress: Progress,
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Time the finalists, fp32 and eager together. Returns the table and the baselines."""
    baselines = finals.baselines(job, table, yardstick, lambda text: progress(Event("note", text)))
    progress(Event("phase", f"measure {len(final)} finalists beside {len(baselines)} baselines"))
    timed = finals.measured(
        job, final, baselines, lambda text: progress(Event("phase", f"measure: {text}"))
    )
    return tuple(_timed(c, timed) for c in table), tuple(timed[c.name] for c in baselines)


def _timed(candidate: Candidate, timed: Mapping[str, Candidate]) -> Candidate:
    """With its measurement; what was refused before, and timed as a baseline, stays refused."""
    found = timed.get(candidate.name, candidate)
    if candidate.status != "refused":
        return found
    return dataclasses.replace(found, status=candidate.status, reason=candidate.reason)


def _fp32_s(baselines: Sequence[Candidate]) -> float | None:
    return next((b.objective_s for b in baselines if b.engine == finals.BASELINE_ENGINE), None)


def choose(
    job: Job,
    table: Sequence[Candidate],
    baselines: Sequence[Candidate],
    constraints: Constraints,
    yardstick: Plan,
    progress: Progress,
) -> tuple[tuple[Candidate, ...], tuple[Candidate, Certificate] | None]:
    """The best measured candidate whose drop holds on samples that the search never saw; the
    table says what the others lack."""
    rows = {c.name: search.constrain(c, constraints, _fp32_s(baselines)) for c in table}
    able = [c for c in rows.values() if c.status == "measured"]
    wanted = constraints.objective
    for candidate in search.rank(able, finals.cost(wanted, able), finals.tie(wanted, able)):
        seen = certifying.looks(job, tuple(rows.values()))
        proof = certifying.certify(job, candidate, constraints, yardstick, seen)
        if certifying.holds(proof, constraints):
            return tuple(rows.values()), (candidate, proof)
        rows[candidate.name] = lost = certifying.uncertified(candidate, proof)
        progress(Event("candidate", lost.reason, lost))
    return tuple(rows.values()), None
