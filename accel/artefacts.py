"""What a candidate is made of: a probed engine, a root graph, a recipe's graph, a plan.

Each runs in a child process with limits; all but the probe are stored steps.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from accel import catalog, graph, store
from accel.errors import AccelError, UsageError
from accel.job import Job, pick, step
from accel.measure import child, here, limits
from accel.naming import graph_key, styled
from accel.protocols import Calibration, Engine, Probe, Quantized
from accel.search import MODULE, MODULE_OPTION
from accel.steps import build as build_step
from accel.steps import calibrate as calibrate_step
from accel.steps import export as export_step
from accel.steps.swap import Swapped
from accel.values import Candidate, Model, Options, Plan, Refusal, Target

EXPORT_LIMIT_S, QUANTIZE_LIMIT_S, BUILD_LIMIT_S, PROBE_LIMIT_S = 900.0, 1800.0, 600.0, 120.0
SWAP_LIMIT_S = 600.0
# of a target, what no engine is built by: words for people, what the search tries, rates for floors
TOLD = ("name", "description", "sources", "engines", "recipes", "peaks", "power_modes_w")
BESIDE = ("layers", "timings")  # what an engine tells of files that lie in its plan and do not run
REASONS = 3  # of sites that no kernel fits, in a row of the table
T = TypeVar("T")
YARDSTICK = "reference"  # the engine that every check and every score is compared with


def exporters(job: Job) -> tuple[str, ...]:
    """The ways to get a root graph out of this workload."""
    return export_step.roots(job.workload)


def yardstick(job: Job, root: Model) -> Plan:
    """The fp32 graph in the plainest engine: what every check and score is compared with."""
    return build(job, root, YARDSTICK, {}).value


def engine(job: Job, name: str) -> tuple[Engine | None, str]:
    """An engine that was seen to run here, or None with the reason and the line that mends it."""
    try:
        seen = probe(job, name)
        return (catalog.load("engines", name), "") if seen.usable else (None, _fixable(seen))
    except AccelError as error:
        return None, str(error)


def _fixable(seen: Probe) -> str:
    return f"{seen.reason} Run: {seen.fix}" if seen.fix else seen.reason


def probe(job: Job, engine: str) -> Probe:
    """Ask an engine, in a child process, whether it can run here."""
    return child.call(
        f"accel.engines.{engine}:probe",
        {},
        Probe,
        log=job.log(f"probe-{engine}"),
        timeout_s=PROBE_LIMIT_S,
    )


def export(job: Job, exporter: str) -> store.Step[Model]:
    """One root graph. Raises CandidateBroken with the exporter's own error."""
    key = {"exporter": exporter, **pick(job, "source", "weights", "example")}
    words = {
        "source": job.workload.source,
        "data": job.workload.data,
        "exporter": exporter,
    }
    verb = "accel.steps.export:export_source"
    return _in_child(job, "export", key, Model, verb, words, EXPORT_LIMIT_S)


def made(
    job: Job, roots: Mapping[str, Model], candidate: Candidate, engine: Engine
) -> Quantized | Refusal:
    """What the engine builds from, or why there is no such graph; a module has one only to be held
    to."""
    if candidate.root == MODULE:
        return Quantized(next(iter(roots.values())), {})
    if job.given is not None:
        return _given(job, candidate, engine)
    found = quantize(job, roots[candidate.root], candidate, engine).value
    if not candidate.engine.startswith(found.only):
        return Refusal(candidate.name, f"only {found.only} reads this graph as meant")
    return _with_kernels(job, found, candidate.kernels) if candidate.kernels else found


def _given(job: Job, candidate: Candidate, engine: Engine) -> Quantized | Refusal:
    """The graph that another machine made of this candidate."""
    given = job.given or {}
    found = given.get(graph_key(candidate, engine.style(job.target))) or given.get(candidate.engine)
    if found is None:
        return Refusal(
            candidate.name,
            "the unmeasured release holds no graph of it: this machine, or this accel, plans "
            "another than the one that packed it",
        )
    return found if isinstance(found, Refusal) else keep(job, found)


def keep(job: Job, found: Quantized) -> Quantized:
    """A graph of another place among the finished steps, so that nothing here points there."""

    def make(folder: Path) -> Quantized:
        path = graph.copy(found.model.path, folder / "model.onnx")
        return dataclasses.replace(found, model=dataclasses.replace(found.model, path=path))

    told = dataclasses.replace(found, model=dataclasses.replace(found.model, path=Path()))
    return step(job, "keep", {"graph": told}, Quantized, make).value


def swap(job: Job, model: Model, kernels: Sequence[str]) -> store.Step[Swapped]:
    """The graph with these kernels' operators wherever they fit."""
    from accel.cuda import ledger

    sources = {name: ledger.source_digest(name) for name in kernels}
    words = {"model": model, "kernels": list(kernels)}
    verb = "accel.steps.swap:swap"
    key = {"model": model.digest, "kernels": sources}
    return _in_child(job, "swap", key, Swapped, verb, words, SWAP_LIMIT_S)


def _with_kernels(job: Job, found: Quantized, kernels: Sequence[str]) -> Quantized | Refusal:
    done = swap(job, found.model, kernels).value
    sites = {name: count for name, count in done.sites.items() if count}
    if not sites:
        reasons = [f"{r.what}: {r.reason}" for r in done.refused]
        more = f"; and {len(reasons) - REASONS} more" if len(reasons) > REASONS else ""
        return Refusal("kernels", "; ".join(["no kernel fits", *reasons[:REASONS]]) + more)
    facts = {**found.facts, "sites": sites, "kernels": done.model.trail[-1].removeprefix("swap: ")}
    ports = found.model  # a pass may rename the symbols of the axes; these are the workload's own
    model = dataclasses.replace(done.model, inputs=ports.inputs, outputs=ports.outputs)
    return dataclasses.replace(found, model=model, facts=facts)


def calibrate(job: Job, root: Model) -> store.Step[Calibration]:
    """Sketches of a root's values, from one pass over the workload's calibration data.

    Raises UsageError where there is none, or the auditor finds it unfit."""
    if job.calibration_file is None:
        raise UsageError("int8 needs calibration data. Add calibration() to the workload.")
    timed = calibrate_step.sizes(r.inputs for r in job.requests)
    key = {"root": root.digest, "timed": timed, **pick(job, "calibration", "source")}
    words = {
        "model": root,
        "data": job.calibration_file,
        "noise": list(job.workload.noise),
        "timed": timed,
    }
    verb = "accel.steps.calibrate:calibrate"
    return _in_child(job, "calibrate", key, Calibration, verb, words, QUANTIZE_LIMIT_S)


def quantize(job: Job, root: Model, candidate: Candidate, engine: Engine) -> store.Step[Quantized]:
    """The candidate's graph: its recipe applied to its root in its engine's style."""
    style = engine.style(job.target)
    recipe = catalog.load("recipes", candidate.recipe)
    data = job.calibration_file if recipe.NEEDS_CALIBRATION else None
    sketched = getattr(recipe, "NEEDS_SKETCHES", False) and data is not None
    key = {
        "root": root.digest,
        "recipe": candidate.recipe,
        "options": candidate.recipe_options,
        "style": styled(candidate.recipe, style),
        "calibration": job.digests["calibration"] if recipe.NEEDS_CALIBRATION else None,
    }
    words = {
        "model": root,
        "recipe": candidate.recipe,
        "calibration": data,
        "style": style,
        "options": candidate.recipe_options,
        "calibrated": calibrate(job, root).value if sketched else None,
    }
    verb = "accel.steps.quantize:quantize"
    return _in_child(job, "quantize", key, Quantized, verb, words, QUANTIZE_LIMIT_S)


def _in_child(
    job: Job,
    name: str,
    key: Mapping[str, Any],
    kind: type[T],
    verb: str,
    words: Mapping[str, Any],
    limit_s: float,
) -> store.Step[T]:
    """A step that a process of its own makes, with these words and its folder as `out`."""

    def make(folder: Path) -> T:
        log = job.log(f"{name}-{store.digest_json(key)[:10]}")
        words_there = {**words, "out": folder}
        most = limits.machine_bytes()
        return child.call(verb, words_there, kind, log=log, timeout_s=limit_s, memory_bytes=most)

    return step(job, name, key, kind, make)


def build(job: Job, model: Model, engine: str, options: Options) -> store.Step[Plan]:
    """What the engine makes of a graph, or of the workload's module where its options ask for it."""
    if MODULE_OPTION in options:
        options = {**options, MODULE_OPTION: job.workload.source}
    key = {
        "model": model.digest,
        "engine": engine,
        "options": options,
        "target": device(job.target),
        "kernels": kernel_sources(model, options),
        "machine": job.machine_class,
        **driver(),
        "module": _module(job, options),
        **pick(job, "requests"),
    }

    def make(folder: Path) -> Plan:
        plan = build_step.build(
            model,
            engine,
            job.target,
            options,
            job.requests,
            folder,
            log=job.log(f"build-{store.digest_json(key)[:10]}"),
            timeout_s=BUILD_LIMIT_S,
            memory_bytes=limits.target_bytes(job.target),
        )
        return dataclasses.replace(plan, facts={**plan.facts, **key["module"], **_compiled(plan)})

    return step(job, "build", key, Plan, make)


def _module(job: Job, options: Options) -> Options:
    """What a plan is made of where that is no graph: the module's code and its weights."""
    if MODULE_OPTION not in options:
        return {}
    return {"module": store.digest_json(pick(job, "source", "weights"))[: store.DIGITS]}


def _compiled(plan: Plan) -> Options:
    """What runs where that is no graph, whose digest says what it computes: made again by a compiler,
    it may be other code."""
    if plan.path.suffix == ".onnx":
        return {}
    place, told = plan.path, plan.facts.get("digests", {})
    runs: Any = {name: digest for name, digest in told.items() if name not in BESIDE}
    runs = runs or (store.digest_files(place) if place.is_dir() else store.digest_file(place))
    return {"built": store.digest_json(runs)[: store.DIGITS]}


def device(target: Target) -> Options:
    """What a build may depend on of a target."""
    return {k: v for k, v in dataclasses.asdict(target).items() if k not in TOLD}


def driver() -> Options:
    """What is no part of a machine's class and still of a plan for a GPU: an older driver loads none of
    a newer one's. Nothing where there is no GPU."""
    found = here.gpus()
    return {"driver": found[0].driver} if found else {}


def kernel_sources(model: Model, options: Options) -> Options:
    """Digests of the hand-written kernels, and what compiles them, where a plan may hold their code:
    the graph only names them."""
    swapped = any(line.startswith(("swap: ", "given as ")) for line in model.trail)
    if not swapped and not options.get("kernels"):
        return {}
    from accel.cuda import packed

    return {**_kernels(), "packed": packed.digest()}


@functools.cache
def _kernels() -> Options:
    from accel.cuda import ledger, toolchain

    sources = {name: ledger.source_digest(name) for name in catalog.names("kernels")}
    return {**sources, "toolchain": toolchain.known()}
