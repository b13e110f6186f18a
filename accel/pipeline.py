"""optimize(): from a model to a verified release, as one sentence."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accel import finals, search, trials
from accel import job as jobs
from accel import target as targets
from accel.errors import AccelError, CandidateBroken, ConstraintError
from accel.job import Job
from accel.protocols import Engine
from accel.search import Constraints
from accel.values import Candidate, Certificate, Model, Plan, Release

DEFAULT = Constraints()


@dataclass(frozen=True)
class Event:
    """Progress: what a terminal shows while a run is under way."""

    kind: str  # "phase", "candidate", "reused", "note"
    text: str
    candidate: Candidate | None = None
    done: int = 0
    total: int = 0


Progress = Callable[[Event], None]


def quiet(event: Event) -> None:
    """The progress of a caller who wants none."""


def optimize(
    source: str,
    *,
    target: str = "cpu-local",
    constraints: Constraints = DEFAULT,
    out: str | Path = "release",
    work: str | Path = ".accel",
    data: str | None = None,
    seed: int = 0,
    progress: Progress = quiet,
) -> Release:
    """Turn a workload into the fastest release that keeps its accuracy on a target.

    Raises ConstraintError (with the nearest candidates) when nothing meets the constraints,
    UsageError for a wrong workload, EnvironmentProblem for a machine that cannot do it. Finished
    steps stay in `work`: the same call resumes after any interruption."""
    device = targets.load(target)
    search.validate(constraints, device)
    job = jobs.prepare(source, device, data, Path(work), seed)
    roots = export(job, progress)
    yardstick = trials.yardstick(job, next(iter(roots.values())))
    table = screen(job, roots, constraints, yardstick, progress)
    table = score(job, table, constraints, yardstick, progress)
    table, baselines = measure(job, table, constraints, yardstick, progress)
    table, winner, proof = choose(job, table, baselines, constraints, yardstick, progress)
    progress(Event("phase", f"pack {out}"))
    again = command(source, target, constraints, data)
    release = finals.pack(job, winner, baselines, table, proof, yardstick, again, Path(out))
    progress(Event("note", job.ledger.text()))
    return release


def export(job: Job, progress: Progress) -> Mapping[str, Model]:
    """Every root graph that works. Raises CandidateBroken, with every error, when none does."""
    roots, errors = {}, []
    names = trials.exporters(job)
    for i, name in enumerate(names):
        progress(Event("phase", f"export with {name}", done=i, total=len(names)))
        try:
            done = trials.export(job, name)
        except AccelError as error:
            errors.append(f"{name}: {error}")
            progress(Event("note", errors[-1]))
            continue
        roots[name] = done.value
        progress(Event("reused" if done.reused else "note", "; ".join(done.value.trail)))
    if not roots:
        raise CandidateBroken("No exporter could export this model.\n" + "\n".join(errors))
    return roots


def screen(
    job: Job,
    roots: Mapping[str, Model],
    constraints: Constraints,
    yardstick: Plan,
    progress: Progress,
) -> tuple[Candidate, ...]:
    """Try every candidate briefly: first each recipe's best guess, then its other settings."""
    engines, absent = _engines(job, constraints)
    planned = search.plan(
        engines, tuple(roots), job.target, job.requests, job.workload.padding, constraints.recipes
    )
    first, later = search.waves(planned)
    tried = _try(job, roots, engines, first, yardstick, progress)
    worth, spared = search.refine(tried, later)
    tried += _try(job, roots, engines, worth, yardstick, progress)
    table = search.prune((*absent, *tried, *spared))
    for row in (*absent, *spared, *(c for c in table if c.status == "pruned")):
        progress(Event("candidate", row.reason, row))
    return table


def _engines(job: Job, constraints: Constraints) -> tuple[dict[str, Engine], tuple[Candidate, ...]]:
    usable, absent = {}, []
    for name in constraints.engines or job.target.engines:
        found, why = trials.engine(job, name)
        if found is None:
            absent.append(Candidate(name, "any", "any", name, status="refused", reason=why))
        else:
            usable[name] = found
    return usable, tuple(absent)


def _try(
    job: Job,
    roots: Mapping[str, Model],
    engines: Mapping[str, Engine],
    candidates: Sequence[Candidate],
    yardstick: Plan,
    progress: Progress,
) -> tuple[Candidate, ...]:
    done = []
    for i, planned in enumerate(candidates):
        row = planned
        if row.status == "planned":
            progress(Event("phase", f"try {row.name}", done=i, total=len(candidates)))
            row = trials.trial(job, roots, planned, engines[planned.engine], yardstick)
        progress(Event("candidate", row.reason, row))
        done.append(row)
    return tuple(done)


def score(
    job: Job,
    table: Sequence[Candidate],
    constraints: Constraints,
    yardstick: Plan,
    progress: Progress,
) -> tuple[Candidate, ...]:
    """Judge the survivors on the search split; those over the budget are refused."""
    progress(Event("phase", "score the fp32 reference"))
    baseline = trials.score(job, yardstick, "search", yardstick)
    budget = constraints.budget(baseline.value)
    alive = sum(c.status == "built" for c in table)
    done: list[Candidate] = []
    for built in table:
        row = built
        if row.status == "built":
            at = sum(c.score is not None for c in done)
            progress(Event("phase", f"score {row.name}", done=at, total=alive))
            row = search.hold(trials.scored(job, built, baseline, yardstick), budget)
            progress(Event("candidate", row.reason, row))
        done.append(row)
    return tuple(done)


def measure(
    job: Job,
    table: Sequence[Candidate],
    constraints: Constraints,
    yardstick: Plan,
    progress: Progress,
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Time the finalists, fp32 and eager together. Returns the table and the baselines."""
    final = search.finalists(table, constraints.objective)
    baselines = finals.baselines(job, table, yardstick)
    progress(Event("phase", f"measure {len(final)} finalists beside {len(baselines)} baselines"))
    timed = finals.measured(
        job, (*final, *baselines), lambda text: progress(Event("phase", f"measure: {text}"))
    )
    table = search.leave([timed.get(c.name, c) for c in table], final)
    for candidate in table:
        if candidate.measurement is not None or candidate.status == "pruned":
            progress(Event("candidate", candidate.reason, candidate))
    return table, tuple(timed[c.name] for c in baselines)


def choose(
    job: Job,
    table: Sequence[Candidate],
    baselines: Sequence[Candidate],
    constraints: Constraints,
    yardstick: Plan,
    progress: Progress,
) -> tuple[tuple[Candidate, ...], Candidate, Certificate]:
    """The best measured candidate whose drop holds on samples that the search never saw.

    Raises ConstraintError with the nearest candidates when there is none."""
    fp32 = next((b.objective_s for b in baselines if b.recipe == "fp32" and b.objective_s), None)
    rows = {c.name: search.constrain(c, constraints, fp32) for c in table}
    able = [c for c in rows.values() if c.status == "measured"]
    for candidate in search.rank(able, finals.cost(constraints.objective), finals.tie):
        progress(Event("phase", f"certify {candidate.name}"))
        proof = finals.certify(job, candidate, constraints, yardstick, looks=len(able))
        if proof.grade == "certified" or (proof.grade == "consistent" and not constraints.certify):
            return tuple(rows.values()), candidate, proof
        rows[candidate.name] = lost = search.uncertified(candidate, proof)
        progress(Event("candidate", lost.reason, lost))
    raise ConstraintError(search.nearest(tuple(rows.values()), constraints))


def command(source: str, target: str, constraints: Constraints, data: str | None) -> str:
    """The shell line that gives this release again."""
    words = ["accel", "optimize", source, "--target", target, "--objective", constraints.objective]
    if constraints.max_drop is not None:
        unit = "%" if constraints.max_drop_relative else "pt"
        words += ["--max-drop", f"{constraints.max_drop:g}{unit}"]
    if constraints.min_speedup is not None:
        words += ["--min-speedup", f"{constraints.min_speedup:g}"]
    if constraints.max_latency_s is not None:
        words += ["--max-latency", f"{constraints.max_latency_s * 1e3:g}ms"]
    if constraints.max_memory_bytes is not None:
        words += ["--max-memory", f"{constraints.max_memory_bytes / 1e6:g}MB"]
    words += [w for r in constraints.recipes for w in ("--recipe", r)]
    words += [w for e in constraints.engines for w in ("--engine", e)]
    words += ["--certify"] if constraints.certify else []
    return shlex.join([*words, *(["--data", data] if data else []), "--out", "release"])
