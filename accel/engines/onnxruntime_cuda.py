"""ONNX Runtime on an NVIDIA GPU, by its CUDA provider or, where its libraries are, by TensorRT's.

Nothing falls back in silence: the graph is opened with the CPU banned, and where that fails it is
opened again and every node that fell is told, with the copies that it costs.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnxruntime

from accel import catalog, graph
from accel import padding as shapes
from accel import placement as placements
from accel.engines import _ort_cuda_open as opening
from accel.engines import _ort_cuda_probe, _ort_placement, _ort_shapes, _ort_tensorrt
from accel.engines._asked import asked
from accel.engines._cuda_memory import Device
from accel.engines._ort_cuda_session import Session
from accel.errors import CandidateBroken
from accel.measure import machine
from accel.protocols import Probe
from accel.values import Model, Options, Placement, Plan, QuantStyle, Refusal, Request, Target

BASELINE = False
NATIVE = {"provider": "tensorrt"}  # whose engines lie in the plan
GRAPH = "model.onnx"
TENSOR_CORES_FROM = (8, 0)  # TF32 and bf16 (CUDA C++ Programming Guide, "Compute Capability 8.x")
NO_INT8 = "ONNX Runtime's CUDA provider has no int8 kernels: Q/DQ pairs would be run in float"
NO_BF16 = "bf16 needs compute capability 8.0 or newer"


def probe() -> Probe:
    """Usable where a session on the GPU was made and ran; else the line that mends it."""
    return _ort_cuda_probe.probe()


def style(target: Target) -> QuantStyle:
    """TensorRT's: signed and symmetric. Nothing is quantized for the CUDA provider; its name tells bf16
    which operators it has kernels of."""
    return QuantStyle(True, True, True, True, True, operators=("onnxruntime_cuda",), pairs="inputs")


def recipes(target: Target) -> Mapping[str, Refusal | None]:
    """fp32, fp16 and weights alone; bf16 from Ampere on; no int8. (microsoft/onnxruntime#20052 and others)"""
    found: dict[str, Refusal | None] = {
        name: Refusal(name, NO_INT8) if name.startswith("int") else Refusal(name, "not tried here")
        for name in catalog.names("recipes")
    }
    found |= {name: None for name in ("fp32", "fp16", "weight_only") if name in found}
    found["bf16"] = None if _ampere(target) else Refusal("bf16", NO_BF16)
    return found


def options(
    recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
) -> tuple[Options, ...]:
    """With CUDA graphs and without; fp32 also with TF32, which its name then says."""
    threads: Options = {"threads": target.threads or machine.cores()}
    plain: Options = {**threads, "cuda_graph": False}
    found: list[Options] = [{**threads, "cuda_graph": True}, plain]
    if recipe == "fp32" and _ampere(target):
        found.append({**threads, "cuda_graph": True, "tf32": True})
    if _ort_cuda_probe.tensorrt():
        found.append({**plain, "provider": "tensorrt"})
    return tuple(found)


def _ampere(target: Target) -> bool:
    parts = (target.compute_capability or "0.0").split(".")
    return (int(parts[0]), int(parts[1])) >= TENSOR_CORES_FROM


def build(
    model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
) -> Plan:
    """The graph itself, opened and run on the GPU; where each node runs is read back.

    Options: threads; cuda_graph; tf32; nhwc; conv_search and arena, as ONNX Runtime spells them;
    provider, "cuda" or "tensorrt". Raises UsageError for another value, CandidateBroken where the
    graph is refused, where there is no GPU, or where a CUDA graph cannot be captured."""
    wanted = opening.settled(options)
    opening.preload()
    proto = graph.skeleton(model.path)
    path = graph.copy(model.path, out / GRAPH, proto)
    feeds = shapes.varied(requests, 1)
    by_tensorrt = wanted["provider"] == "tensorrt"
    profiles = _ort_tensorrt.profiles(model, requests) if by_tensorrt else {}
    device = Device()
    try:
        asked_for = {**wanted, "profiles": profiles}
        with opening.hushed():
            strict, placement = _placed(path, asked_for, device.stream, feeds, proto)
    finally:
        device.close()
    if wanted["cuda_graph"]:
        _uncopied(placement)
    plan = Plan(
        "onnxruntime_cuda",
        dataclasses.replace(model, path=path),
        out if by_tensorrt else path,
        options,
        {"strict": strict, "profiles": profiles},
        {"onnxruntime": onnxruntime.__version__},
        portable=not by_tensorrt,
        placement=placement,
    )
    return dataclasses.replace(plan, facts={**plan.facts, **_facts(plan, feeds)})


def _placed(
    path: Path, options: Options, stream: int, feeds: Sequence[Any], proto: Any
) -> tuple[bool, Placement | None]:
    """Does all of it run on the GPU, and where does each node? None without a request to run."""
    plain = {**options, "cuda_graph": False}  # a replayed graph has no nodes to tell of
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        watched, strict = Path(folder), True
        try:
            session = opening.opened(path, plain, stream, strict, watched=watched)
        except CandidateBroken as error:
            if opening.FELL not in str(error):
                raise
            strict = False
            session = opening.opened(path, plain, stream, strict, watched=watched)
        if not feeds:
            return strict, None
        shape_nodes = _ort_shapes.shape_nodes(proto.graph)
        found = _ort_placement.read(session, feeds[0], asked(proto), "GPU")
    return strict, _ort_shapes.told_apart(found, shape_nodes)


def _uncopied(placement: Placement | None) -> None:
    """Raise CandidateBroken where tensors cross between devices: such calls cannot be captured."""
    if placement is None or not placements.copies(placement):
        return
    causes = sorted({cause for copy in placement.copied for cause in copy.causes})
    raise CandidateBroken(
        f"a CUDA graph needs all of the graph on the GPU: {placements.copies(placement)} tensors "
        f"are copied at each call, for {', '.join(causes) or 'nodes on the host'}"
    )


def _facts(plan: Plan, feeds: Sequence[Any]) -> Options:
    """What a loaded session obtained, and whether its CUDA graphs were really captured."""
    with opening.overheard() as said:
        session = _loaded(plan, opening.INFO)
        for feed in feeds:
            session(feed)
        session.close()
        captured = said().count(opening.CAPTURED)
    if plan.options.get("cuda_graph") and feeds and not captured:
        raise CandidateBroken("a CUDA graph was asked for and ONNX Runtime captured none")
    fell: Counter[str] = Counter()
    for row in placements.fallen(plan.placement) if plan.placement else ():
        fell[row.operator] += row.count  # an operator has a row for each precision
    return {
        **session.facts,
        **_ort_cuda_probe.facts(),
        "cuda_graphs_captured": captured,
        "fallen": dict(fell),
        "copies": placements.copies(plan.placement) if plan.placement else 0,
    }


def load(plan: Plan) -> Session:
    """Ready to run on the GPU.

    Raises CandidateBroken where there is none, or where it obtains less than the plan had."""
    return _loaded(plan, opening.ERRORS_ONLY)


def _loaded(plan: Plan, level: int) -> Session:
    opening.preload()
    options, path = opening.settled(plan.options), _graph(plan)
    strict, profiles = bool(plan.facts["strict"]), plan.facts["profiles"]
    with ExitStack() as held:
        device = Device()
        held.callback(device.close)
        cache = _ort_tensorrt.copied(path, held) if profiles else None
        inner = opening.opened(
            path, {**options, "profiles": profiles}, device.stream, strict, level, cache=cache
        )
        facts: Options = {
            "providers": opening.told(inner),
            "precision": f"as in the graph; TF32 {'on' if options['tf32'] else 'off'}",
            "threads": inner.get_session_options().intra_op_num_threads,
        }
        ports = plan.model.inputs, plan.model.outputs
        return Session(inner, device, ports, facts, held.pop_all(), bool(options["cuda_graph"]))


def _graph(plan: Plan) -> Path:
    """The .onnx: the plan itself, or in its folder where TensorRT's engines lie beside it."""
    return plan.path / GRAPH if plan.path.is_dir() else plan.path
