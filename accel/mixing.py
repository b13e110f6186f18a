"""Which products must stay in float32 for a graph of int8 to keep its accuracy, and no more than those.

    1. the samples that full int8 hurts most        3. the order: error mended per unit of time lost
    2. revert one region at a time, in the real     4. bisect on the whole task: as few as the budget
       engine: how much of their error goes away       allows; then give back those that were not needed

The error is that of the outputs, squared, against fp32: unlike a metric it is continuous, and what several
regions add to it adds up nearly. The metric decides, on every sample, at the end. (NNCF reverts by the
same kind of test, greedily, and blind to time; quantize_with_accuracy_control.) Each trial is a stored
step, so an interrupted search goes on where it was.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accel import arrays, artefacts, graph, regions, store, trials, workload
from accel.constraints import Constraints, fits
from accel.errors import AccelError, concerns_all
from accel.job import Job, step
from accel.naming import label
from accel.protocols import Engine
from accel.regions import Region
from accel.search import hold
from accel.values import Candidate, Feed, Model, Plan, Refusal, Score

RECIPE = "int8_mixed"
DYNAMIC = (
    "int8_dynamic"  # an engine that takes it is quick with scales that are taken as a value passes
)
NOTHING: Mapping[str, Any] = {}
HURT = 48  # samples that a region is tried on
MOST_BASES = 2  # of full int8, that are worth mending
MINUTES = 10.0
SPARE = 0.6  # of the budget: what regions may take; the rest is for whole-task scores
WORST = 1e6  # the error of an output that is no number, or of another shape
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """What every trial of one search shares."""

    job: Job
    roots: Mapping[str, Model]
    engine: Engine
    base: Candidate  # full int8, built
    baseline: Score
    yardstick: Plan
    budget: float
    deadline: float  # time.monotonic()
    tell: Tell
    scored: list[Candidate] = field(default_factory=list)  # every assignment that was scored
    minutes: float = MINUTES  # that were given: how finely the graph is divided hangs on them

    def late(self) -> bool:
        """Is the time up?"""
        return time.monotonic() > self.deadline


@dataclass(frozen=True)
class Groups:
    """Names of the sites of each region, as a step's value: a search that goes on has the same ones."""

    names: tuple[tuple[str, ...], ...]


def worth_mending(table: Sequence[Candidate], constraints: Constraints) -> tuple[Candidate, ...]:
    """Full int8 that is over the budget, and quicker than all that is within: the best of each engine.

    What was so far off that it was neither timed nor scored is worth it where its engine has no better."""

    def cost(c: Candidate) -> float:
        return c.size_bytes if constraints.objective == "size" else c.screen_s or math.inf

    alive = [c for c in table if c.status == "built" and c.screen_s and fits(c, constraints)]
    best = min(map(cost, alive), default=math.inf)
    over = [
        c
        for c in table
        if c.recipe == RECIPE and c.status == "refused" and c.plan is not None
        and fits(c, constraints) and (c.screen_s is None or cost(c) < best)
    ]  # fmt: skip
    over.sort(key=lambda c: math.inf if c.drop is None else c.drop)
    first = {c.engine: c for c in reversed(over)}
    return tuple(sorted(first.values(), key=cost))[:MOST_BASES]


def mend(bench: Bench) -> tuple[Candidate, ...]:
    """Every assignment that was scored, those over the budget refused: the search looked at them all."""
    order = ranked(bench)
    if len(order) > 1:
        _bisected(bench, order)
        _softened(bench)
    else:
        bench.tell("there is nothing to choose from: no two regions could be tried")
    return tuple({c.name: c for c in bench.scored}.values())


def ranked(bench: Bench) -> tuple[Region, ...]:
    """Regions by how much of the error they cause for the time that they save, worst first."""
    from accel import sketch

    known = sketch.read(artefacts.calibrate(bench.job, _root(bench)).value.sketches)
    with_tables = bool(bench.base.recipe_options.get("tables"))
    every = regions.regions(graph.dense(_root(bench).path), known, with_tables)
    if len(every) < 2:
        return ()
    feeds = hurt(bench)
    want = arrays.load(trials.outputs(bench.job, bench.yardstick, feeds))
    whole = _error(bench, bench.base, want, feeds) or WORST
    until = time.monotonic() + SPARE * (bench.deadline - time.monotonic())
    groups = _groups(bench, every, want, feeds, until)
    scores: dict[Region, float] = {}
    for i, group in enumerate(groups):
        if time.monotonic() > until:
            bench.tell(f"time is up: {len(groups) - i} of {len(groups)} regions were not tried")
            break
        left = _error(bench, _candidate(bench, group.names), want, feeds)
        mended = 0.0 if left is None else max(0.0, 1 - left / whole)
        told = (
            "cannot be built without it"
            if left is None
            else f"mends {100 * mended:.0f} % of the error"
        )
        bench.tell(f"region {i + 1} of {len(groups)}: {group.title} {told}")
        scores[group] = mended / group.share
    return tuple(sorted(scores, key=lambda one: -scores[one]))


def _groups(
    bench: Bench, every: Sequence[Region], want: Any, feeds: Sequence[Feed], until: float
) -> tuple[Region, ...]:
    """As many regions as there is time for, by how long the first trial took, and a forecast."""

    def make(_: Path) -> Groups:
        started = time.monotonic()
        _error(bench, _candidate(bench, every[0].names), want, feeds)
        each_s = max(time.monotonic() - started, 1e-3)
        found = regions.grouped(every, max(2, int(max(0.0, until - time.monotonic()) / each_s)))
        bench.tell(
            f"{len(found)} regions of {len(every)} products, about {len(found) * each_s / 60:.1f} minutes"
        )
        return Groups(tuple(g.names for g in found))

    base = trials.identity(bench.base.plan) if bench.base.plan else bench.base.name
    key = {"base": base, "minutes": bench.minutes, **trials.here(bench.job)}
    shares = {name: region.share for region in every for name in region.names}
    names = step(bench.job, "regions", key, Groups, make).value.names
    return tuple(Region(tuple(some), sum(shares[n] for n in some)) for some in names)


def hurt(bench: Bench) -> list[Feed]:
    """The calls of the samples whose rows full int8 changed most."""
    import numpy as np

    found = workload.samples(bench.job.workload, "search")
    if not found or bench.base.score is None:
        return [r.inputs for r in bench.job.requests]
    before, after = np.load(bench.baseline.rows), np.load(bench.base.score.rows)
    moved = np.abs(after - before).reshape(len(before), -1).sum(axis=1)  # [samples]
    worst = np.argsort(-moved, kind="stable")[:HURT]
    return [feed for i in sorted(worst.tolist()) for feed in found[i][0]]


def _bisected(bench: Bench, order: Sequence[Region]) -> None:
    """Score heads of the order until the shortest that is within the budget is known, then thin it."""
    low, high = 0, len(order)  # `low` regions are too few
    while high - low > 1 and not bench.late():
        middle = (low + high) // 2
        tried = _scored(bench, _names(order[:middle]))
        bench.tell(f"{middle} of {len(order)} regions in float32: {_said(tried)}")
        if tried.status == "built":
            high = middle
        else:
            low = middle
    if high < len(order):
        _given_back(bench, order[:high])


def _given_back(bench: Bench, kept: Sequence[Region]) -> None:
    """Back to int8 with what is not needed, the costliest first, as long as the budget holds."""
    for region in sorted(kept[:-1], key=lambda one: -one.share):
        if bench.late():
            break
        fewer = [one for one in kept if one != region]
        tried = _scored(bench, _names(fewer))
        if tried.status == "built":
            bench.tell(f"{region.title} need not be float32: {_said(tried)}")
            kept = fewer


def _softened(bench: Bench) -> None:
    """In the best assignment: what is float32 quantized as it passes, where that is quick in this engine."""
    kept = [c for c in bench.scored if c.status == "built"]
    able = bench.engine.recipes(bench.job.target).get(DYNAMIC, DYNAMIC) is None
    if not kept or not able or bench.late():
        return
    best = min(kept, key=lambda c: len(c.recipe_options["float"]))
    tried = _scored(bench, best.recipe_options["float"], {"left": "dynamic"})
    bench.tell(f"their activations quantized as they pass: {_said(tried)}")


def _said(tried: Candidate) -> str:
    drop = "" if tried.drop is None else f"drop {tried.drop:.3f}"
    return f"{drop} {'within the budget' if tried.status == 'built' else tried.reason}".strip()


def _names(kept: Sequence[Region]) -> list[str]:
    return [n for one in kept for n in one.names]


def _root(bench: Bench) -> Model:
    return bench.roots[bench.base.root]


def _candidate(bench: Bench, names: Sequence[str], more: Mapping[str, Any] = NOTHING) -> Candidate:
    """The base with these sites left in float32."""
    base = bench.base
    options = {**base.recipe_options, "float": sorted(names), **more}
    name = label(base.engine, base.recipe, base.root, options, base.options, base.kernels)
    return dataclasses.replace(
        base,
        name=f"{name} {store.digest_json([*sorted(names), *more.values()])[:6]}",
        recipe_options=options,
        status="planned",
        reason="",
        plan=None,
        score=None,
        drop=None,
        screen_s=None,
    )


def _error(
    bench: Bench, candidate: Candidate, want: Sequence[Mapping[str, Any]], feeds: Sequence[Feed]
) -> float | None:
    """Of its outputs, as `accel explain` measures it; None where it cannot run."""
    from accel.explaining import running

    try:
        plan = candidate.plan or _plan(bench, candidate)
        if plan is None:
            return None
        got = arrays.load(trials.outputs(bench.job, plan, feeds))
    except AccelError as error:
        if concerns_all(error):
            raise
        return None
    names = list(want[0])
    return running.error(*([[one[n] for n in names] for one in some] for some in (got, want)))


def _plan(bench: Bench, candidate: Candidate) -> Plan | None:
    made = artefacts.made(bench.job, bench.roots, candidate, bench.engine)
    if isinstance(made, Refusal):
        return None
    return artefacts.build(bench.job, made.model, candidate.engine, candidate.options).value


def _scored(bench: Bench, names: Sequence[str], more: Mapping[str, Any] = NOTHING) -> Candidate:
    """Built, timed and held to the budget."""
    planned = _candidate(bench, names, more)
    built = trials.trial(bench.job, bench.roots, planned, bench.engine, bench.yardstick)
    if built.status == "built":
        built = hold(trials.scored(bench.job, built, bench.baseline, bench.yardstick), bench.budget)
    bench.scored.append(built)
    return built
