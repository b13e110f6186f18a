"""What is asked of one candidate: is it right, how fast, how accurate; each a stored step.

A candidate that fails, crashes or hangs is lost with its reason; the run goes on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import arrays, artefacts, floors, graph, padding, stats, store
from accel.artefacts import build, device, driver
from accel.errors import AccelError, concerns_all
from accel.job import Job, pick, step
from accel.measure import screening
from accel.protocols import Engine
from accel.steps import check as check_step
from accel.steps import evaluate as evaluate_step
from accel.steps.check import CheckResult
from accel.values import (
    Candidate,
    Feed,
    Measurement,
    Model,
    Options,
    Plan,
    Refusal,
    Score,
    Split,
)

CHECKED_FEEDS = 8  # enough for NaN/Inf and gross error; accuracy is judged on the whole split
SCREEN_BUDGET_S = 1.0


@dataclass(frozen=True)
class OutputsFile:
    """An .npz of outputs, as a step's value."""

    path: Path


def trial(
    job: Job, roots: Mapping[str, Model], candidate: Candidate, engine: Engine, yardstick: Plan
) -> Candidate:
    """Quantize, build, check and screen: built, refused or failed, with the reason."""
    try:
        made = artefacts.made(job, roots, candidate, engine)
        if isinstance(made, Refusal):
            return lost(candidate, "refused", made.reason)
        # its graph can be made: what fails from here on are these settings
        candidate = dataclasses.replace(candidate, size_bytes=size_bytes(made.model.path))
        plan = build(job, made.model, candidate.engine, candidate.options).value
        plan = dataclasses.replace(plan, portable=plan.portable and made.portable)
        wrong = check(job, plan, yardstick)
        if wrong:
            return lost(dataclasses.replace(candidate, plan=plan), "refused", wrong)
        quick = screen(job, plan)
        return dataclasses.replace(
            candidate,
            kernels=tuple(made.facts.get("sites", ())),
            status="built",
            reason=words(made.facts),
            plan=plan,
            size_bytes=size_bytes(plan.path),
            screen_s=stats.floor_seconds(quick),
            floor_s=floors.floor_s(job, candidate, plan),
            peak_memory_bytes=quick.peak_memory_bytes,
        )
    except AccelError as error:
        return failed(candidate, error)


def check(job: Job, plan: Plan, yardstick: Plan) -> str:
    """Why a plan's outputs cannot be right (NaN, Inf, gross error), or an empty text."""
    key = {"plan": identity(plan), "yardstick": identity(yardstick), **here(job)}
    feeds = padding.varied(job.requests, CHECKED_FEEDS)
    expected = outputs(job, yardstick, feeds)

    def make(folder: Path) -> CheckResult:
        return check_step.check(plan, expected, feeds, folder, **_held(job, "check", key))

    result = step(job, "check", key, CheckResult, make).value
    return "; ".join(result.reasons)


def outputs(job: Job, plan: Plan, feeds: Sequence[Feed]) -> Path:
    """A plan's outputs on feeds, as an .npz."""
    key = {"plan": identity(plan), "feeds": arrays.digest(feeds), **here(job)}

    def make(folder: Path) -> OutputsFile:
        held = _held(job, "outputs", key)
        return OutputsFile(evaluate_step.outputs(plan, feeds, folder, **held))

    return step(job, "outputs", key, OutputsFile, make).value.path


def screen(job: Job, plan: Plan) -> Measurement:
    """A quick timing, good for pruning only."""
    key = {"plan": identity(plan), **here(job)}

    def make(folder: Path) -> Measurement:
        held = _held(job, "screen", key)
        return screening.quick(plan, job.requests, folder, budget_s=SCREEN_BUDGET_S, **held)

    return step(job, "screen", key, Measurement, make).value


def score(job: Job, plan: Plan, split: Split, yardstick: Plan) -> Score:
    """The plan's metric on a split, every row kept."""
    key = {
        "plan": identity(plan),
        "yardstick": identity(yardstick),
        "split": split,
        **here(job),
        **pick(job, "source", split),
    }

    feeds = [r.inputs for r in job.requests]
    reference = None if job.digests[split] else outputs(job, yardstick, feeds)

    def make(folder: Path) -> Score:
        held = _held(job, "evaluate", key)
        return evaluate_step.evaluate(
            plan, job.workload, split, folder, reference=reference, feeds=feeds, **held
        )

    return step(job, "evaluate", key, Score, make).value


def _held(job: Job, verb: str, key: Options) -> dict[str, Any]:
    """Whose memory a process is held to, and where it prints: not in the step's folder, since a step
    that fails takes that with it, and its error names the log."""
    log = job.log(f"{verb}-{store.digest_json(key)[:10]}")
    return {"log": log, "target": job.target}


def failed(candidate: Candidate, error: AccelError) -> Candidate:
    """The candidate, lost with its error, unless that is the machine's and ends the run."""
    if concerns_all(error):
        raise error
    return lost(candidate, "failed", str(error))


def scored(job: Job, candidate: Candidate, baseline: Score, yardstick: Plan) -> Candidate:
    """The candidate with its score on the search split, or lost with the reason."""
    if candidate.plan is None:
        return candidate
    try:
        found = score(job, candidate.plan, "search", yardstick)
    except AccelError as error:
        return failed(candidate, error)
    worse = baseline.value - found.value if found.higher_is_better else found.value - baseline.value
    return dataclasses.replace(candidate, score=found, drop=worse)


def identity(plan: Plan) -> Options:
    """What a plan is, wherever it lies: enough for the key of anything done with it."""
    return {
        "engine": plan.engine,
        "model": plan.model.digest,
        "options": plan.options,
        "versions": plan.versions,
        "kernels": artefacts.kernel_sources(plan.model, plan.options),
        "module": plan.facts.get("module"),
        "built": plan.facts.get("built"),
    }


def here(job: Job) -> Options:
    """What answers and times depend on beside the plan: a machine's instructions decide what it makes
    of int8 and bf16, and engines build for a target and its requests."""
    place = {"machine": job.machine_class, "target": device(job.target), **driver()}
    return {**place, **pick(job, "requests")}


def size_bytes(path: Path) -> int:
    """Bytes on disk of a graph and its external data, or of all files below a folder."""
    if path.is_file():
        files = [path, *(path.parent / name for name in graph.external_data(path))]
    else:
        files = [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def lost(candidate: Candidate, status: Any, reason: str) -> Candidate:
    """The candidate, out of the race, with what became of it."""
    return dataclasses.replace(candidate, status=status, reason=reason)


def words(facts: Options) -> str:
    """What a recipe tells of its graph, for a row of the table."""
    return ", ".join(f"{k} {v}" for k, v in facts.items() if isinstance(v, (str, int)))
