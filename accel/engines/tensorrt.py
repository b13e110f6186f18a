"""TensorRT 10.3 to 11: an engine for one kind of GPU, built ahead of time by one code path.

Precision is in the graph: networks are strongly typed, and no precision flag is ever set. A plan is a
folder: the engine, whose file's name tells whom it is for; layers.json, what the engine inspector says of
each layer; timing.cache, so that a rebuild takes the same tactics; model.onnx where the engine holds no
weights. Its facts, all of them read back or recorded as they were set:

    engine_file, sm, gpu, tensorrt, driver   whom it is for; load refuses another machine
    compatible       {"version": bool, "hardware": "NONE" | "AMPERE_PLUS" | "SAME_COMPUTE_CAPABILITY"}
    profiles         [{input: {"min": [..], "opt": [..], "max": [..]}}], smallest first; an input that is
                     read as a shape has "values": {"min": [..], "opt": [..], "max": [..]} too
    io               [{"name", "mode": "input" | "output", "dtype", "shape": [.. -1 ..], "shape_input"}]
    workspace_bytes, free_bytes, rungs, level, timings_found          how it was built, each attempt
    digests          {"engine", "layers", "timings", "onnx"}: sha256; the session holds the engine to it
    precision        layers by the types that they give, as the graph asks
    plugins, refused kernels that became plugins, with their nodes; those that did not, and why
    stripped, onnx   weights are put in from that file at load
    session          {"scratch_bytes", "cuda_graph": {shapes: "captured" or why not}}: each was run once
    placement_unread why the ledger of layers is absent; empty where it is there
    dla, rebuilds, warnings, tf32, opset, ir_version, cuda_graph

The module imports without TensorRT: a build server for other machines asks it for recipes and options.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from accel import catalog
from accel.engines import _tensorrt_build as builds
from accel.engines import _tensorrt_cache as cache
from accel.engines import _tensorrt_identity as identity
from accel.engines import _tensorrt_names as names
from accel.engines import _tensorrt_network as networks
from accel.engines import _tensorrt_options as choices_of
from accel.engines import _tensorrt_plan as plans
from accel.engines import _tensorrt_session as sessions
from accel.errors import EnvironmentProblem, MissingExtra
from accel.measure import here
from accel.protocols import Probe, Session
from accel.values import Model, Options, Plan, QuantStyle, Refusal, Request, Target

BASELINE = False
KERNELS = True  # nodes of accel.kernels become plugins
NATIVE = True  # TensorRT trusts the engine that it reads
BF16_SINCE = (8, 0)  # Ampere (TensorRT support matrix, Hardware and Precision)
INT4_SINCE = (
    8,
    0,
)  # weights alone: no kernels on Turing (TensorRT for RTX, support matrix, "INT4 WoQ GEMM")
NO_DYNAMIC = (
    "the parser takes no DynamicQuantizeLinear, ConvInteger or MatMulInteger (onnx-tensorrt, "
    "docs/operators.md), and an asymmetric Q/DQ node is refused (NVIDIA/TensorRT #4698)"
)


def probe() -> Probe:
    """Usable where TensorRT loads and the driver shows a GPU."""
    try:
        version = str(names.library().__version__)
        found = identity.here(version)
    except (MissingExtra, EnvironmentProblem) as error:
        reason, _, fix = str(error).partition(" Run: ")
        return Probe(False, reason=reason, fix=fix)
    facts = {"gpu": found.gpu, "compute_capability": found.sm, "driver": f"CUDA {found.driver}"}
    return Probe(True, version, facts=facts)


def style(target: Target) -> QuantStyle:
    """Signed and symmetric, weights per channel, activations per tensor: its only scheme.
    (TensorRT documentation, Working with Quantized Types)"""
    return QuantStyle(
        weight_signed=True,
        activation_signed=True,
        weight_symmetric=True,
        activation_symmetric=True,
        per_channel=True,
        operators=("tensorrt",),
        pairs="inputs",
    )


def recipes(target: Target) -> Mapping[str, Refusal | None]:
    """What the target's GPU has kernels for; fp32 on all."""
    capability = _capability(target)
    unknown = f"target {target.name!r} has no compute_capability to judge by"
    blind = "" if capability else unknown
    old = (
        f"bf16 needs compute capability 8.0; target {target.name!r} has {target.compute_capability}"
    )
    int4 = f"int4 weights need compute capability 8.0; target {target.name!r} has {target.compute_capability}"
    answers = {
        "fp32": "",
        "fp16": blind,
        "bf16": blind or ("" if capability and capability >= BF16_SINCE else old),
        "int8_static": blind,
        "int8_mixed": blind,
        "int8_dynamic": NO_DYNAMIC,
        "weight_only": blind or ("" if capability and capability >= INT4_SINCE else int4),
    }
    new = "this engine was never tried with it"
    reasons = {name: answers.get(name, new) for name in catalog.names("recipes")}
    return {name: Refusal(name, why) if why else None for name, why in reasons.items()}


def options(
    recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
) -> tuple[Options, ...]:
    """One optimization profile; several; TF32; a DLA core: what applies. All options there are stand
    in _tensorrt_options."""
    return choices_of.offered(recipe, target, requests, _capability(target))


def _capability(target: Target) -> tuple[int, ...] | None:
    """The target's, or this machine's where the target is whatever this machine is."""
    told = target.compute_capability
    if told is None and target.local and here.gpus():
        told = here.gpus()[0].compute_capability
    return names.number(told) if told else None


def build(
    model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
) -> Plan:
    """The plan's folder, `out`.

    Raises CandidateBroken where the parser or the builder refuses, UsageError for an option that is
    wrong, MissingExtra without TensorRT, EnvironmentProblem without the target's GPU."""
    choices = choices_of.read(options, target)
    trt = names.library()
    who = identity.here(str(trt.__version__))
    found = plans.source(model.path, _this_gpu(target, who), choices, out)
    log = names.collector(trt)
    start = len(log.messages)
    parsed = networks.parse(trt, builds.builder(trt, log, choices.threads), found, log)
    io = networks.ports(parsed.network)
    tight, roomy = (plans.profiles(model, requests, choices, io, n) for n in (1, choices.room))
    timings = cache.begin(who, choices.timing_cache)
    work = builds.Work(trt, log, parsed, choices, tight, roomy, timings)
    builds.require_dla(work)
    made = builds.climb(work)
    ledger, unread = plans.placement(made.layers, found, choices)
    facts = {
        **plans.story(found, choices, who),
        **made.facts,
        "io": io,
        "precision": networks.census(parsed.network),
        "dla": builds.dla(work, made),
        "rebuilds": builds.repeated(work, made),
        "placement_unread": unread,
        "timings_kept": cache.keep(made.config, cache.place(who)),
        "warnings": names.warnings(log.messages[start:]),
        **plans.written(out, identity.engine_name(model.path.stem, who), made),
    }
    versions = {"tensorrt": who.tensorrt, "gpu": who.gpu, "driver": f"CUDA {who.driver}"}
    plan = Plan("tensorrt", model, out, options, facts, versions, portable=False, placement=ledger)
    return dataclasses.replace(plan, facts={**facts, "session": sessions.tried(plan, requests)})


def _this_gpu(target: Target, who: identity.Identity) -> Target:
    """The target with this machine's capability, which it has to be: TensorRT builds for the GPU that
    it runs on. Raises EnvironmentProblem for another one."""
    if target.compute_capability not in (None, who.sm):
        raise EnvironmentProblem(
            f"Target {target.name!r} has compute capability {target.compute_capability}, this "
            f"machine's {who.gpu} {who.sm}: TensorRT builds only for the GPU that it runs on. Pack "
            f"what can be done here: accel optimize --target {target.name}; there: accel finish RELEASE"
        )
    return dataclasses.replace(target, compute_capability=who.sm)


def load(plan: Plan) -> Session:
    """Ready to run, with every context that its profiles need.

    Raises EnvironmentProblem on a machine that the plan is not for, MissingExtra without TensorRT,
    CandidateBroken where the engine does not load."""
    trt = names.library()
    who = identity.here(str(trt.__version__))
    graph = plan.model.path  # in a release the plan stands for it
    identity.require(plan.facts, who, str(graph) if graph.suffix == ".onnx" else "MODEL.onnx")
    return sessions.load(plan)


__all__ = ["BASELINE", "KERNELS", "build", "load", "options", "probe", "recipes", "style"]
