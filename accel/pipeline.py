"""optimize(): from a model to a verified release, as one sentence. pack(): the same for a graph that
someone else made. finish(): the rest of it, on the device, for a release packed elsewhere."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from accel import (
    artefacts,
    certifying,
    deciding,
    finals,
    finishing,
    mending,
    scoring,
    stages,
    unfinished,
)
from accel import graph as graphs
from accel import job as jobs
from accel import target as targets
from accel.constraints import Constraints, validate
from accel.errors import ConstraintError
from accel.measure import here
from accel.mixing import MINUTES
from accel.stages import Event, Progress, quiet
from accel.steps.pack import claim
from accel.unmeasured import release as waiting
from accel.values import Candidate, Options, Plan, Release

DEFAULT = Constraints()


def optimize(
    source: str | Path,
    *,
    target: str | Path = "cpu-local",
    constraints: Constraints = DEFAULT,
    out: str | Path = "release",
    work: str | Path = ".accel",
    data: str | Path | None = None,
    seed: int = 0,
    epochs: int = jobs.EPOCHS,
    unmeasured: bool = False,
    minutes: float = MINUTES,
    progress: Progress = quiet,
) -> Release:
    """Turn a workload into the fastest release that keeps its accuracy on a target.

    For a target that is another machine, or with `unmeasured`, all that needs no clock is done
    and packed: the verdict is "cannot tell", and `finish` on the device does the rest.

    Raises ConstraintError (with the nearest candidates) when nothing meets the constraints,
    UsageError for a wrong workload, EnvironmentProblem for a machine that cannot do it. Finished
    steps stay in `work`: the same call resumes after any interruption.

    `minutes`: for putting parts of an int8 graph back to float32, where it is quick but over the budget.
    `epochs`: how many times the final starts its processes anew, at most; fewer take less time and
    give wider intervals."""
    device = targets.load(str(target))
    validate(constraints, device)
    out, work = Path(out).absolute(), Path(work).absolute()  # the user's code may change the folder
    claim(out, work)
    file = None if data is None else str(data)
    job = jobs.prepare(str(source), device, file, work, seed, epochs)
    roots = stages.export(job, progress)
    yardstick = artefacts.yardstick(job, next(iter(roots.values())))
    again = command(job, str(source), str(target), constraints)
    again += f" --budget {minutes:g}" if minutes != MINUTES else ""
    if why := "as asked" if unmeasured else here.elsewhere(device):
        progress(Event("note", f"nothing is timed: {why}"))
        progress(Event("note", "int8 that is over the budget is not mended without a clock"))
        again += " --unmeasured" if unmeasured else ""
        return waiting(job, str(source), constraints, roots, yardstick, again, out, progress)
    certifying.possible(job, constraints, yardstick)
    table = stages.screen(job, roots, constraints, yardstick, progress)
    table = scoring.score(job, table, constraints, yardstick, progress)
    table = mending.mix(job, roots, table, constraints, yardstick, minutes, progress)
    return _finished(job, table, constraints, yardstick, again, out, progress)


def finish(
    release: str | Path,
    *,
    workload: str | Path | None = None,
    out: str | Path | None = None,
    work: str | Path = ".accel",
    progress: Progress = quiet,
) -> Release:
    """Build, measure, certify and select, on the device, what `optimize` packed unmeasured elsewhere.

    Graphs, target and constraints are the release's own. Samples, row and metric are the
    workload's: `workload`, else the file that was recorded; the very same in either case. The
    unmeasured release stays; the finished one goes to `out`, "<release>-finished" beside it.

    Raises Unmeasured where this machine is not the target, UsageError for a folder that is no
    unmeasured release and for another workload, CandidateBroken where a file differs from what was
    packed, and what `optimize` raises. Finished steps stay in `work`, as there."""
    root, work = Path(release).resolve(), Path(work).absolute()
    kept = unfinished.read(root)
    finishing.require(kept, root)
    place = Path(out).absolute() if out else root.with_name(f"{root.name}-finished")
    finishing.apart(root, place, work)
    claim(place, work)
    job, facts = finishing.prepare(kept, root, None if workload is None else str(workload), work)
    for name in facts["differs"]:
        progress(Event("note", f"the workload yields other data for {name!r} here than there"))
    roots = finishing.roots(job, kept)
    yardstick = artefacts.yardstick(job, next(iter(roots.values())))
    again = finishing.command(root, workload)
    with finishing.compiled(root):
        certifying.possible(job, kept.constraints, yardstick)
        table = stages.screen(job, roots, kept.constraints, yardstick, progress)
        table = scoring.score(job, table, kept.constraints, yardstick, progress)
        return _finished(job, table, kept.constraints, yardstick, again, place, progress, facts)


def _finished(
    job: jobs.Job,
    table: Sequence[Candidate],
    constraints: Constraints,
    yardstick: Plan,
    again: str,
    out: Path,
    progress: Progress,
    facts: Options | None = None,
) -> Release:
    """What every road to a release ends with: finals, the certificate, and the pack."""
    try:
        decided = deciding.decide(job, table, constraints, yardstick, progress)
    except ConstraintError:
        if (more := scoring.rest(table)) is None:
            raise
        table = scoring.score(job, more, constraints, yardstick, progress, everything=True)
        decided = deciding.decide(job, table, constraints, yardstick, progress)
    table, baselines, winner, proof = decided
    progress(Event("phase", f"pack {out}"))
    release = finals.pack(job, winner, baselines, table, proof, yardstick, again, out, facts or {})
    progress(Event("note", job.ledger.text()))
    return release


def pack(
    source: str | Path,
    graph: str | Path,
    *,
    engine: str = "onnxruntime_cpu",
    target: str | Path = "cpu-local",
    constraints: Constraints = DEFAULT,
    out: str | Path = "release",
    work: str | Path = ".accel",
    data: str | Path | None = None,
    seed: int = 0,
    epochs: int = jobs.EPOCHS,
    progress: Progress = quiet,
) -> Release:
    """Make a release of one graph that was made elsewhere: it is held to the workload's fp32
    export, scored, timed and certified just as `optimize` does with its own candidates.

    Raises what `optimize` raises, BadModel for a graph that cannot be read, and Unmeasured for a
    target that is another machine."""
    given = graphs.describe(Path(graph), (f"given as {Path(graph).name}",))
    device = targets.load(str(target))
    here.require(device)
    only = dataclasses.replace(constraints, recipes=(), engines=(engine,))
    validate(only, device)
    out, work = Path(out).absolute(), Path(work).absolute()  # the user's code may change the folder
    claim(out, work)
    file = None if data is None else str(data)
    job = jobs.prepare(str(source), device, file, work, seed, epochs)
    yardstick = artefacts.yardstick(job, next(iter(stages.export(job, progress).values())))
    certifying.possible(job, only, yardstick)
    table = stages.screen_given(job, given, engine, yardstick, progress)
    table = scoring.score(job, table, only, yardstick, progress)
    again = command(job, str(source), str(target), only, ("pack", str(graph), "--workload"))
    return _finished(job, table, only, yardstick, again, out, progress)


def _exact(number: float) -> str:
    return f"{number:.15g}"


def command(
    job: jobs.Job,
    source: str,
    target: str,
    constraints: Constraints,
    verb: tuple[str, ...] = ("optimize",),
) -> str:
    """The shell line that gives this release again."""
    words = ["accel", *verb, source, "--target", target, "--objective", constraints.objective]
    unit = "%" if constraints.max_drop_relative else "pt"
    drop = constraints.max_drop
    words += ["--max-drop", "none" if drop is None else f"{_exact(drop)}{unit}"]
    if constraints.min_speedup is not None:
        words += ["--min-speedup", _exact(constraints.min_speedup)]
    if constraints.max_latency_s is not None:
        words += ["--max-latency", f"{_exact(constraints.max_latency_s * 1e3)}ms"]
    if constraints.max_memory_bytes is not None:
        words += ["--max-memory", f"{_exact(constraints.max_memory_bytes / 1e6)}MB"]
    words += [w for r in constraints.recipes for w in ("--recipe", r)]
    words += [w for e in constraints.engines for w in ("--engine", e)]
    words += ["--certify"] if constraints.certify else []
    words += ["--data", job.workload.data] if job.workload.data else []
    words += ["--seed", str(job.seed)] if job.seed else []
    words += ["--epochs", str(job.epochs)] if job.epochs != jobs.EPOCHS else []
    return shlex.join([*words, "--out", "release"])
