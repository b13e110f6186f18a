"""The stages of a search, each from table to table, telling its progress as it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from accel import arrays, artefacts, mixing, naming, padding, refining, search, trials
from accel.constraints import Constraints
from accel.errors import (
    AccelError,
    CandidateBroken,
    EnvironmentProblem,
    MissingExtra,
    UsageError,
)
from accel.job import Job
from accel.protocols import Engine
from accel.steps.check import comparable
from accel.values import Candidate, Model, Plan


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


def export(job: Job, progress: Progress) -> Mapping[str, Model]:
    """Every root graph that works. Raises CandidateBroken, with every error, when none does."""
    roots: dict[str, Model] = {}
    errors: list[str] = []
    names = artefacts.exporters(job)
    for i, name in enumerate(names):
        progress(Event("phase", f"export with {name}", done=i, total=len(names)))
        try:
            done = artefacts.export(job, name)
        except AccelError as error:
            if isinstance(error, EnvironmentProblem) and not isinstance(error, MissingExtra):
                raise  # the disk is full: no other exporter can help
            errors.append(f"{name}: {error}")
            progress(Event("note", errors[-1]))
            continue
        if done.value.digest in {root.digest for root in roots.values()}:
            progress(Event("note", f"{name} gives the same graph again"))
            continue
        roots[name] = done.value
        progress(Event("reused" if done.reused else "note", "; ".join(done.value.trail)))
    if not roots:
        raise CandidateBroken("No exporter could export this model.\n" + "\n".join(errors))
    _fitting(job, next(iter(roots.values())))
    return roots


def _fitting(job: Job, root: Model) -> None:
    """Raise UsageError where what production sends, or calibration(), does not fit the graph."""
    for i, request in enumerate(job.requests):
        arrays.fit(request.inputs, root.inputs, f"item {i} of requests()")
    if job.calibration_file is not None:
        for i, feed in enumerate(arrays.stream(job.calibration_file)):
            arrays.fit(feed, root.inputs, f"item {i} of calibration()")


def screen(
    job: Job,
    roots: Mapping[str, Model],
    constraints: Constraints,
    yardstick: Plan,
    progress: Progress,
) -> tuple[Candidate, ...]:
    """Try every candidate briefly: first each recipe's best guess, then its other settings.

    Raises NoBaseline where the reference itself gives nothing finite."""
    _answering(job, yardstick)
    engines, absent = _engines(job, constraints)
    planned = search.plan(
        engines, tuple(roots), job.target, job.requests, job.workload.padding, constraints.recipes
    )
    _calibrated(job, roots, planned, progress)
    first, later = refining.waves(planned)
    tried = _try(job, roots, engines, first, yardstick, progress)
    worth, spared = refining.refine(tried, later, constraints)
    tried += _try(job, roots, engines, worth, yardstick, progress)
    table = search.prune((*absent, *tried, *spared), constraints)
    for row in (*absent, *spared, *(c for c in table if c.status == "pruned")):
        progress(Event("candidate", row.reason, row))
    return table


def _calibrated(
    job: Job, roots: Mapping[str, Model], planned: Sequence[Candidate], progress: Progress
) -> None:
    """Tell what the auditor found of the calibration data, and how much of it was run."""
    wanted = {c.root for c in planned if c.status == "planned" and c.recipe == mixing.RECIPE}
    if job.calibration_file is None or job.given is not None:
        return
    for root in sorted(wanted & set(roots)):
        progress(Event("phase", f"calibrate {root}"))
        try:
            found = artefacts.calibrate(job, roots[root]).value
        except AccelError as error:  # each candidate that needs it will say so too
            progress(Event("note", f"calibration: {error}"))
            continue
        ended = "ranges had settled" if found.settled else "no more data, or ranges still moved"
        progress(Event("note", f"calibration: {found.feeds} of {found.offered} feeds, {ended}"))
        for f in (f for f in found.findings if f.level != "note"):
            where = f"{f.where}: " if f.where else ""
            progress(Event("note", f"calibration: {f.level}: {where}{f.message}"))


def screen_given(
    job: Job, given: Model, engine: str, yardstick: Plan, progress: Progress
) -> tuple[Candidate, ...]:
    """Try one graph as it is, with every setting of one engine.

    Raises UsageError for an engine that runs no graphs, EnvironmentProblem where that engine cannot
    run here, and what `screen` raises."""
    _answering(job, yardstick)
    found, why = artefacts.engine(job, engine)
    if found is None:
        raise EnvironmentProblem(f"Engine {engine} cannot run here: {why}")
    settings = found.options("fp32", job.target, job.requests, job.workload.padding)
    if any(search.MODULE_OPTION in options for options in settings):
        raise UsageError(
            f"Engine {engine} runs a workload's own module, never a graph that was made elsewhere. "
            f"Choose another with --engine. See: accel list engines"
        )
    planned = [
        Candidate(
            naming.label(engine, "as given", given.path.stem, {}, options),
            search.GIVEN,
            "fp32",
            engine,
            recipe_options={"clean": False},
            options=options,
        )
        for options in settings
    ]
    return _try(job, {search.GIVEN: given}, {engine: found}, planned, yardstick, progress)


def _answering(job: Job, yardstick: Plan) -> None:
    feeds = padding.varied(job.requests, trials.CHECKED_FEEDS)
    comparable(arrays.load(trials.outputs(job, yardstick, feeds)))


def _engines(job: Job, constraints: Constraints) -> tuple[dict[str, Engine], tuple[Candidate, ...]]:
    usable, absent = {}, []
    for name in constraints.engines or job.target.engines:
        found, why = artefacts.engine(job, name)
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
