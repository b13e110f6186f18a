"""The end of a search: time the finalists together, and pack the best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from accel import arrays, artefacts, floors, padding, stats, tails, trials
from accel.artefacts import build
from accel.errors import AccelError, MissingExtra, concerns_all
from accel.heats import timed
from accel.job import Job, told
from accel.search import GIVEN, MODULE, class_of, portable
from accel.steps import pack as pack_step
from accel.trials import outputs, score
from accel.values import (
    Candidate,
    Certificate,
    Measurement,
    Model,
    Options,
    Plan,
    Refusal,
    Release,
    Split,
    Verdict,
)

BASELINE_ENGINE = "onnxruntime_cpu"
EPOCHS = 4
TIE = 1.03  # half an interval, as a factor: rivals that overlap 1 within it tie in earnest
SPEED_UP = 1.10  # the same for baselines, whose ratio is reported and decides nothing


def measure(
    job: Job, arms: Mapping[str, Plan], rivals: Collection[str], progress: Callable[[str], None]
) -> Mapping[str, Measurement | Refusal]:
    """All arms timed together: interleaved, in random order, in fresh processes, until the best
    of the `rivals` is told from the others or ties with them closely."""
    return timed(
        job,
        "measure",
        arms,
        {"epochs": job.epochs, "rivals": sorted(rivals)},
        epochs=min(EPOCHS, job.epochs),
        most_epochs=job.epochs,
        enough=lambda found: settled(found, rivals),
        progress=progress,
    )


def settled(found: Sequence[Measurement | Refusal], rivals: Collection[str]) -> bool:
    """Would more epochs change neither the choice nor what is said of the speed-ups?"""
    timed = [m for m in found if isinstance(m, Measurement)]
    able = [m for m in timed if m.arm in rivals]
    if not able:
        return True
    best = min(able, key=stats.objective)
    ratios = {m.arm: stats.ratio(m, best) for m in timed if m is not best}
    return all(
        (arm in rivals and r.low > 1.0)
        or r.high < r.low * (TIE if arm in rivals else SPEED_UP) ** 2
        for arm, r in ratios.items()
    )


def baselines(
    job: Job,
    table: Sequence[Candidate],
    yardstick: Plan,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[Candidate, ...]:
    """What a release is compared with: PyTorch eager, and fp32 in ONNX Runtime at its quickest.

    A graph that was given is no baseline of itself: its recipe says only that it runs as it is."""
    fp32 = [
        c
        for c in table
        if c.plan and c.recipe == "fp32" and c.engine == BASELINE_ENGINE and c.root != GIVEN
        if c.screen_s
    ]
    fp32.sort(key=lambda c: c.screen_s or 0.0)
    return (*_eager(job, yardstick.model, note), *(fp32[:1] or _plain(job, yardstick.model)))


def _plain(job: Job, root: Model) -> tuple[Candidate, ...]:
    """fp32 in ONNX Runtime, where the search left that engine out, or was of a given graph alone."""
    engine, _ = artefacts.engine(job, BASELINE_ENGINE)
    if engine is None:
        return ()
    options = engine.options("fp32", job.target, job.requests, job.workload.padding)[0]
    plan = build(job, root, BASELINE_ENGINE, options).value
    return (Candidate("ort fp32", "any", "fp32", BASELINE_ENGINE, plan=plan, status="built"),)


def _eager(job: Job, root: Model, note: Callable[[str], None]) -> tuple[Candidate, ...]:
    """A device that only runs a graph may have no PyTorch: then there is nothing to say of it, nor
    where the model was a graph from the first."""
    if any(line.startswith("given as ") for line in root.trail):
        return ()
    options = {"workload": job.workload.source, "data": job.workload.data}
    try:
        plan = build(job, root, "torch_eager", options).value
    except AccelError as error:  # its own trouble, of memory say, is not the release's
        if concerns_all(error) and not isinstance(error, MissingExtra):
            raise
        note(f"PyTorch eager is no baseline here: {error}")
        return ()
    return (Candidate("torch eager", MODULE, "fp32", "torch_eager", plan=plan, status="built"),)


def measured(
    job: Job,
    rivals: Sequence[Candidate],
    baselines: Sequence[Candidate],
    progress: Callable[[str], None],
) -> dict[str, Candidate]:
    """Every candidate with its measurement from one interleaved run, or lost with the reason."""
    candidates = (*rivals, *baselines)
    arms = {c.name: c.plan for c in candidates if c.plan is not None}
    found = measure(job, arms, {c.name for c in rivals}, progress)
    return {c.name: _with_measurement(job, c, found[c.name]) for c in candidates}


def _with_measurement(job: Job, candidate: Candidate, found: Measurement | Refusal) -> Candidate:
    if isinstance(found, Refusal):
        return trials.lost(candidate, "failed", found.reason)
    least_s = candidate.floor_s
    if least_s is None and candidate.plan is not None:  # a baseline, which was not screened
        least_s = floors.floor_s(job, candidate, candidate.plan)
    return dataclasses.replace(
        candidate,
        status="measured",
        measurement=found,
        objective_s=stats.objective(found),
        floor_s=least_s,
        peak_memory_bytes=found.peak_memory_bytes,
    )


def cost(objective: str, compared: Sequence[Candidate] = ()) -> Callable[[Candidate], float]:
    """What a run minimises: seconds weighted over requests, their tail, their mean, or bytes.

    `compared`: whom it ranks, so that all tails are one quantile."""
    if objective == "size":
        return lambda c: float(c.size_bytes)
    if objective == "latency":
        return lambda c: c.objective_s or float("inf")
    arms = _timed(compared)

    def statistic(m: Measurement) -> float:
        return stats.mean_seconds(m) if objective == "throughput" else stats.tail_seconds(m, arms)

    return lambda c: float("inf") if c.measurement is None else statistic(c.measurement)


def tie(
    objective: str, compared: Sequence[Candidate] = ()
) -> Callable[[Candidate, Candidate], bool]:
    """Is the difference between two measured candidates inside the noise of what a run minimises?
    Sizes have no noise: those tie that are hardly told apart."""
    if objective == "size":
        return lambda a, b: class_of(a.size_bytes) == class_of(b.size_bytes)
    arms = _timed(compared)

    def alike(a: Measurement, b: Measurement) -> bool:
        return tails.tie(a, b, arms) if objective == "tail" else stats.tie(a, b)

    return lambda a, b: bool(
        a.measurement and b.measurement and alike(a.measurement, b.measurement)
    )


def _timed(candidates: Sequence[Candidate]) -> tuple[Measurement, ...]:
    return tuple(c.measurement for c in candidates if c.measurement is not None)


GOLDEN = 4  # requests at least, kept with the reference's outputs for the smoke test at load


def pack(
    job: Job,
    winner: Candidate,
    baselines: Sequence[Candidate],
    table: Sequence[Candidate],
    proof: Certificate,
    yardstick: Plan,
    reproduce: str,
    out: Path,
    facts: Options,
) -> Release:
    """Write the release: the winner, the best portable graph, and all the evidence."""
    feeds = padding.varied(job.requests, GOLDEN)
    split: Split = "certify" if job.digests["certify"] else "search"
    plan = winner.plan
    if plan is None:
        raise AccelError(f"{winner.name} was packed before it was built.")
    return pack_step.pack(
        winner=winner,
        portable=_portable(table, yardstick),
        baselines=baselines,
        table=table,
        certificate=proof,
        verdict=Verdict("pass", (f"{proof.grade}: {proof.method} on the {split} split",)),
        golden=(feeds, arrays.load(outputs(job, yardstick, feeds))),
        requests=job.requests,
        rows={
            "reference": score(job, yardstick, split, yardstick).rows,
            winner.name: score(job, plan, split, yardstick).rows,
        },
        reproduce=reproduce,
        facts={
            **facts,
            "target": job.target.name,
            "versions": job.versions,
            "digests": told(job),
            "rates": floors.source(job),
        },
        out=out,
    )


def _portable(table: Sequence[Candidate], yardstick: Plan) -> Candidate:
    """The quickest measured candidate that any runtime can read; the fp32 graph when none is."""
    able = [c for c in table if c.status == "measured" and c.objective_s and portable(c)]
    fp32 = Candidate("reference fp32", "any", "fp32", yardstick.engine, plan=yardstick)
    return min(able, key=lambda c: c.objective_s or 0.0, default=fp32)
