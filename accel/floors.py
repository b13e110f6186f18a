"""The roofline floor of a candidate: the least time for its requests on the target's rates.

A target whose profile has no rates, as this machine's own, is measured: once in a work folder, for a
machine class and a number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accel import roofline
from accel.errors import CandidateBroken, UsageError
from accel.job import Job, pick, step
from accel.measure import ceiling, child, machine
from accel.measure.ceiling import Ceilings
from accel.values import Candidate, Options, Plan

HINTS = {"bf16": "bfloat16", "f16": "float16", "fp16": "float16", "tf32": "tf32"}


@dataclass(frozen=True)
class Share:
    """What a part of the requests asks for, all of one size."""

    weight: float
    operations: Mapping[str, int]
    least_bytes: int


@dataclass(frozen=True)
class Demand:
    """What all requests ask for; `unknown`: operators whose cost is not in it."""

    shares: tuple[Share, ...]
    unknown: tuple[str, ...] = ()


def floor_s(job: Job, candidate: Candidate, plan: Plan) -> float | None:
    """The least seconds of a candidate, weighted over requests as its objective is; None where no
    rate is known or its graph cannot be read.

    The module engines run the graph that they are held to: the fp32 root."""
    try:
        asked = demand(job, plan, float32_as(candidate.options))
    except UsageError:
        return None
    total_s = 0.0
    for share in asked.shares:
        work = roofline.Work((), share.operations, share.least_bytes)
        least_s = roofline.floor(work, rates(job, share.least_bytes)).least_s
        if least_s is None:
            return None
        total_s += share.weight * least_s
    return total_s


def float32_as(options: Options) -> str:
    """What an engine makes of float32 where its options ask it to: nothing else by default."""
    if options.get("tf32"):
        return "tf32"
    if options.get("activations") == "int8":  # of the products: the least time is then that of int8
        return "int8"
    return HINTS.get(str(options.get("precision", "")), "float32")


def demand(job: Job, plan: Plan, float32: str) -> Demand:
    """Operations and bytes of a plan's graph for every size that occurs in the requests."""
    key = {"model": plan.model.digest, "float32_as": float32, **pick(job, "requests")}

    def make(_: Path) -> Demand:
        weights: dict[tuple[tuple[str, int], ...], float] = {}
        for request in job.requests:
            sizes = tuple(sorted(roofline.of_feed(plan.model.inputs, request.inputs).items()))
            weights[sizes] = weights.get(sizes, 0.0) + request.weight
        opened = roofline.opened(plan.model.path)
        unknown: dict[str, None] = {}
        shares = []
        for sizes, weight in weights.items():
            work = roofline.work(opened, dict(sizes), float32_as=float32)
            unknown |= dict.fromkeys(node.operator for node in work.nodes if node.unknown)
            shares.append(Share(weight, work.operations, work.least_bytes))
        return Demand(tuple(shares), tuple(unknown))

    return step(job, "demand", key, Demand, make).value


def rates(job: Job, working_set_bytes: int) -> Mapping[str, float]:
    """The profile's peaks where it has any of operations; else this machine's measured ceilings."""
    found = ceilings(job)
    return job.target.peaks if found is None else found.peaks(working_set_bytes)


def source(job: Job) -> Options:
    """Where the rates come from, for a release's facts."""
    found = ceilings(job)
    if found is None:
        return {"source": ceiling.GIVEN, "peaks": job.target.peaks, "read in": job.target.sources}
    return {"source": ceiling.MEASURED, "ceilings": found}


def ceilings(job: Job) -> Ceilings | None:
    """This machine's measured rates; None where the profile tells them, or it is another machine."""
    device = job.target
    if not ceiling.wanted(device):
        return None
    threads = device.threads or machine.cores()
    key = {"machine": job.machine_class, "threads": threads}

    def make(_: Path) -> Ceilings:
        words, log = {"threads": threads}, job.log("ceiling")
        try:
            return child.call(ceiling.VERB, words, Ceilings, log=log, timeout_s=ceiling.LIMIT_S)
        except CandidateBroken as error:  # it hung, or a library is broken: no candidate's fault
            return Ceilings({}, (), {"failed": str(error)}, threads)

    return step(job, "ceiling", key, Ceilings, make).value
