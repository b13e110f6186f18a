"""For a target that is another machine: all that can be done here, packed for `accel finish`.

Graphs are made, checked statically and compared with fp32 in the reference engine; kernels are
compiled. Nothing is timed, and no accuracy is judged: what another engine gives is only advice.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import (
    arrays,
    artefacts,
    catalog,
    compiled,
    legality,
    padding,
    search,
    trials,
    unfinished,
)
from accel.compiled import FOLDER, Compiled
from accel.constraints import Constraints
from accel.errors import AccelError, ConstraintError, concerns_all
from accel.finals import GOLDEN
from accel.job import Job, step, told
from accel.naming import graph_key
from accel.protocols import Engine, Quantized
from accel.stages import Event, Progress
from accel.steps import evaluate as evaluate_step
from accel.steps import pack as pack_step
from accel.unfinished import Unfinished
from accel.values import Candidate, Finding, Model, Plan, Refusal, Release, Score, Verdict


@dataclass(frozen=True)
class Made:
    """One graph and what is known of it without the device, or why there is none."""

    graph: Quantized | Refusal
    story: str = ""
    size_bytes: int = 0
    findings: tuple[Finding, ...] = ()


def make(
    job: Job,
    roots: Mapping[str, Model],
    constraints: Constraints,
    yardstick: Plan,
    progress: Progress,
) -> tuple[tuple[Candidate, ...], dict[str, Made]]:
    """Every candidate of the target's engines, unmeasured or refused; the graphs by graph_key.

    An engine is asked what it can exploit on the target, never whether it runs here."""
    table: list[Candidate] = []
    made: dict[str, Made] = {}
    for name in constraints.engines or job.target.engines:
        try:
            engine = catalog.load("engines", name)
            planned = _planned(job, name, engine, roots, constraints)
        except AccelError as error:
            row = Candidate(name, "any", "any", name, status="refused", reason=str(error))
            progress(Event("candidate", row.reason, row))
            table.append(row)
            made[name] = Made(Refusal(name, str(error)))
            continue
        for i, one in enumerate(planned):
            progress(Event("phase", f"make {one.name}", done=i, total=len(planned)))
            row = _row(job, roots, one, engine, yardstick, made)
            progress(Event("candidate", row.reason, row))
            table.append(row)
    return tuple(table), made


def _planned(
    job: Job, name: str, engine: Engine, roots: Mapping[str, Model], constraints: Constraints
) -> tuple[Candidate, ...]:
    padded = job.workload.padding
    wanted = constraints.recipes
    return search.plan({name: engine}, tuple(roots), job.target, job.requests, padded, wanted)


def _row(
    job: Job,
    roots: Mapping[str, Model],
    planned: Candidate,
    engine: Engine,
    yardstick: Plan,
    made: dict[str, Made],
) -> Candidate:
    """The candidate with what is known of its graph, which is added to those made."""
    if planned.status != "planned":
        return planned
    if planned.root == search.MODULE:
        return trials.lost(planned, "unmeasured", "the device compiles the workload's own module")
    key = graph_key(planned, engine.style(job.target))
    if key not in made:
        made[key] = _made(job, roots, planned, engine, yardstick)
    found = made[key]
    if isinstance(found.graph, Refusal):
        return trials.lost(planned, "refused", found.graph.reason)
    return dataclasses.replace(
        planned,
        status="unmeasured",
        kernels=tuple(found.graph.facts.get("sites", ())),
        reason=found.story,
        size_bytes=found.size_bytes,
        findings=found.findings,
    )


def _made(
    job: Job, roots: Mapping[str, Model], planned: Candidate, engine: Engine, yardstick: Plan
) -> Made:
    try:
        found = artefacts.made(job, roots, planned, engine)
        if isinstance(found, Refusal):
            return Made(found)
        alone = dataclasses.replace(job.target, engines=(planned.engine,))
        findings = legality.check(found.model.path, alone, job.requests)
    except AccelError as error:
        if concerns_all(error):
            raise
        return Made(Refusal(planned.name, str(error)))
    told = (trials.words(found.facts), _errors(findings), advice(job, found.model, yardstick))
    size = trials.size_bytes(found.model.path)
    return Made(found, "; ".join(t for t in told if t), size, findings)


def _errors(findings: Sequence[Finding]) -> str:
    """A static check is no build: what it finds stands in the row, and the device decides."""
    wrong = [f for f in findings if f.level == "error"]
    return f"{len(wrong)} static errors, the first: {wrong[0].message}" if wrong else ""


def advice(job: Job, model: Model, yardstick: Plan) -> str:
    """How near the graph is to fp32 on the requests, both in the reference engine: a hint of what
    the recipe does, not of what the target's engine will give."""
    feeds = padding.varied(job.requests, trials.CHECKED_FEEDS)
    unlabelled = dataclasses.replace(job.workload, samples=None)
    try:
        plan = artefacts.build(job, model, artefacts.YARDSTICK, {}).value
        expected = trials.outputs(job, yardstick, feeds)

        def score(folder: Path) -> Score:
            log = job.log(f"advise-{model.digest[:10]}")
            return evaluate_step.evaluate(
                plan, unlabelled, "search", folder, reference=expected, feeds=feeds, log=log
            )

        plans = {"plan": trials.identity(plan), "yardstick": trials.identity(yardstick)}
        found = step(job, "advise", {**plans, **trials.here(job)}, Score, score).value
    except AccelError as error:
        if concerns_all(error):
            raise
        return f"advisory: the reference engine does not run it: {str(error).partition(chr(10))[0]}"
    return f"advisory: {found.metric} {found.value:.2f} {found.unit}"


def release(
    job: Job,
    source: str,
    constraints: Constraints,
    roots: Mapping[str, Model],
    yardstick: Plan,
    reproduce: str,
    out: Path,
    progress: Progress,
) -> Release:
    """Make all that needs no clock, and write the release that `accel finish` takes on the device."""
    table, made = make(job, roots, constraints, yardstick, progress)
    if not any(row.status == "unmeasured" for row in table):
        raise ConstraintError(_nothing(job, table))
    kernels = compiled.kernels(job, roots, lambda text: progress(Event("phase", text)))
    for lost in kernels.refused:
        progress(Event("note", f"{lost.what}: {lost.reason}"))
    progress(Event("phase", f"pack {out}"))
    left = _left(job, source, constraints, roots, made)
    packed = _pack(job, left, yardstick, table, kernels, reproduce, out)
    progress(Event("note", job.ledger.text()))
    return packed


def _nothing(job: Job, table: Sequence[Candidate]) -> str:
    lines = [f"  {row.name}: {row.reason}" for row in table[:5]]
    more = [f"  and {len(table) - 5} more"] if len(table) > 5 else []
    first = f"Nothing could be made for {job.target.name!r}: no candidate is left to measure there."
    return "\n".join([first, *lines, *more, "Try more, with fewer --recipe and --engine options."])


def _left(
    job: Job,
    source: str,
    constraints: Constraints,
    roots: Mapping[str, Model],
    made: Mapping[str, Made],
) -> Unfinished:
    return Unfinished(
        target=job.target,
        constraints=constraints,
        source=source,
        plain=job.workload.source.endswith(".onnx"),
        data=job.workload.data is not None,
        digests=job.digests,
        seed=job.seed,
        epochs=job.epochs,
        roots=roots,
        graphs={k: m.graph for k, m in made.items() if isinstance(m.graph, Quantized)},
        refused={k: m.graph for k, m in made.items() if isinstance(m.graph, Refusal)},
        file=job.workload.file_digest,
    )


def _pack(
    job: Job,
    left: Unfinished,
    yardstick: Plan,
    table: Sequence[Candidate],
    kernels: Compiled,
    reproduce: str,
    out: Path,
) -> Release:
    def more(folder: Path) -> Mapping[str, Any]:
        if kernels.folder is not None:
            shutil.copytree(kernels.folder, folder / FOLDER)
        return {unfinished.KEY: unfinished.write(folder, left, yardstick.model)}

    feeds = padding.varied(job.requests, GOLDEN)
    fp32 = Candidate("reference fp32", "any", "fp32", yardstick.engine, plan=yardstick)
    return pack_step.pack(
        winner=Candidate("undecided", "any", "any", "any", status="unmeasured", reason="no clock"),
        portable=fp32,
        baselines=(),
        table=table,
        certificate=None,
        verdict=Verdict("cannot tell", (f"on the device, run: accel finish {out.name}",)),
        golden=(feeds, arrays.load(trials.outputs(job, yardstick, feeds))),
        requests=job.requests,
        rows={},
        reproduce=reproduce,
        facts={
            "target": job.target.name,
            "versions": job.versions,
            "digests": told(job),
            "kernels": {"compiled": kernels.names, "refused": kernels.refused},
        },
        out=out,
        more=more,
    )
