"""OpenVINO on the CPU: dynamic as it comes, or as a few static shape buckets with padding.

Every setting is explicit and read back: left alone, OpenVINO picks bf16 where the processor has it,
and takes the bf16 hint without a word where it has not (then 16 to 70 times slower); and it rounds the
activations of a product whose weights alone are integers to int8.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import openvino

from accel import flatten, graph
from accel import padding as pad
from accel.engines._asked import asked
from accel.engines._openvino_session import Compiled, Session
from accel.errors import CandidateBroken
from accel.measure import machine
from accel.plain import flat
from accel.protocols import Probe
from accel.values import Model, Options, Plan, Port, QuantStyle, Refusal, Request, Target

BASELINE = False
INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
# how many activations share a scale that are rounded beside compressed weights; 32 is the plugin's own choice, 0
# leaves them as the graph has them (OpenVINO, "CPU Device": dynamic quantization)
GROUP = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
GROUPS = {"int8": 32, "as in the graph": 0}


def probe() -> Probe:
    """Usable where its CPU plugin loads."""
    try:
        core = openvino.Core()
        name = core.get_property("CPU", "FULL_DEVICE_NAME")
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except Exception as error:  # openvino raises RuntimeError and types of its own
        fix = "pip install --force-reinstall openvino"
        return Probe(False, reason=f"its CPU plugin does not load: {error}", fix=fix)
    return Probe(True, openvino.__version__, facts={"device": name, "capabilities": list(able)})


def style(target: Target) -> QuantStyle:
    """U8 activations, symmetric S8 weights, per channel: what its int8 kernels take."""
    return QuantStyle(
        weight_signed=True,
        activation_signed=False,
        weight_symmetric=True,
        activation_symmetric=False,
        per_channel=True,
        operators=("openvino",),
        pairs="inputs",
    )


def _capabilities(target: Target) -> list[str]:
    """The plugin's own word on this machine; of a target that lists its instructions, those decide,
    for it may be another machine."""
    if target.isa:
        return ["FP32", *(["BF16"] if BF16 & set(target.isa) else [])]
    return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def recipes(target: Target) -> Mapping[str, Refusal | None]:
    """int8_static by Q/DQ, weights alone; bf16 where the plugin says it has kernels."""
    isa = set(target.isa) or set(machine.isa())
    able = _capabilities(target)
    no_bf16 = Refusal("bf16", f"no bf16 kernels on this processor (it has {', '.join(able)})")
    no_dot = Refusal("int8", "no int8 dot product (VNNI, DOT) on this processor")
    decomposed = "DynamicQuantizeLinear and MatMulInteger are decomposed here, not run in int8"
    half = (
        "its hint says f32 or bf16: fp16 nodes would be computed in that, and gain their size alone"
    )
    return {
        "fp32": None,
        "weight_only": None,
        "fp16": Refusal("fp16", half),
        "bf16": None if "BF16" in able else no_bf16,
        "int8_static": None if INT8 & isa else no_dot,
        "int8_mixed": None if INT8 & isa else no_dot,
        "int8_dynamic": Refusal("int8_dynamic", decomposed),
    }


def options(
    recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
) -> tuple[Options, ...]:
    """Precision hint x (static buckets, dynamic); buckets first: static was 1.2 to 2.4x quicker. Weights
    alone also with their activations rounded, which the name then says."""
    base = {"threads": target.threads or machine.cores()}
    hints = ["bf16"] if recipe == "bf16" else ["f32"]
    if recipe.startswith(("int8", "weight_only")) and recipes(target)["bf16"] is None:
        hints.append("bf16")  # what is not int8 may run in bf16
    inside: tuple[Options, ...] = (
        ({"activations": "int8"}, {}) if recipe == "weight_only" else ({},)
    )
    buckets = {"buckets": pad.MOST, "padding": dict(padding)}
    return tuple(
        {**base, "precision": hint, **shapes, **rounded}
        for hint in hints
        for shapes in (buckets, {})
        for rounded in inside
    )


def build(
    model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
) -> Plan:
    """The graph, the shapes to compile, and what was read back.

    Raises CandidateBroken when OpenVINO refuses the graph."""
    proto = graph.skeleton(model.path)
    path = graph.copy(model.path, out / "model.onnx", proto)
    inlined, proto = _inlined(proto, path)
    model = _told(model, path)
    chosen = _chosen(model, options, requests)
    plan = Plan(
        "openvino",
        model,
        path,
        {**options, **({"buckets": chosen} if chosen else {})},
        versions={"openvino": openvino.__version__},
        portable=options["precision"] == "f32" and "activations" not in options,
    )
    session = load(plan)
    facts = {**session.facts, **({"inlined": inlined} if inlined else {})}
    placement = session.placement(asked(proto))
    session.close()
    return dataclasses.replace(plan, facts=facts, placement=placement)


def _inlined(proto: Any, path: Path) -> tuple[str, Any]:
    """Put the bodies of a model's functions in their nodes' place: OpenVINO refuses such nodes.
    Which functions, and the model; weights that lie beside the file stay there."""
    names = ", ".join(sorted(flatten.called(proto, None)))
    if names:
        proto = flatten.inlined(proto, None)
        if proto.functions:
            raise CandidateBroken(
                f"OpenVINO runs no functions of a model, and onnx cannot put these in their nodes' place: {names}"
            )
        onnx.save(proto, path)
    return names, proto


def _told(model: Model, path: Path) -> Model:
    """The model with the sizes of its outputs that OpenVINO finds. torch's older exporter calls the 384 of an
    embedding "Divembedding_dim_1", and what cannot be cut back is not padded."""
    known = {dim for port in model.inputs for dim in port.shape}
    if all(isinstance(d, int) or d in known for port in model.outputs for d in port.shape):
        return model
    outputs = _read(openvino.Core(), path).outputs
    read = {name: port for port in outputs for name in port.get_names()}

    def sized(port: Port) -> Port:
        found = read[port.name].partial_shape if port.name in read else None
        if found is None or found.rank.is_dynamic or len(found) != len(port.shape):
            return port
        pairs = zip(port.shape, found, strict=True)
        return dataclasses.replace(
            port, shape=tuple(d.get_length() if d.is_static else name for name, d in pairs)
        )

    return dataclasses.replace(model, outputs=tuple(map(sized, model.outputs)))


def _chosen(model: Model, options: Options, requests: Sequence[Request]) -> list[pad.Sizes]:
    if "buckets" not in options:
        return []
    if any(dim == "?" for port in model.inputs for dim in port.shape):
        raise CandidateBroken("an input has an axis without a name: a bucket cannot tell it apart")
    found = pad.buckets(model, requests, options.get("padding", {}), int(options["buckets"]))
    if not found:
        raise CandidateBroken("there is no request whose shape a bucket could be made for")
    if found == [{}]:
        raise CandidateBroken("the model has no dynamic axis: there is nothing to put in buckets")
    return found


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": int(plan.options["threads"]),
        "INFERENCE_PRECISION_HINT": plan.options["precision"],
        GROUP: GROUPS.get(_activations(plan), _activations(plan)),  # it refuses what is no number
    }


def _activations(plan: Plan) -> str:
    return str(plan.options.get("activations", "as in the graph"))


def _compile(core: Any, model: Any, plan: Plan) -> Compiled:
    try:
        made = core.compile_model(model, "CPU", _settings(plan))
    except Exception as error:  # as above
        raise CandidateBroken(f"OpenVINO refuses the graph: {flat(error)[:400]}") from None
    facts = {
        "precision": made.get_property("INFERENCE_PRECISION_HINT").get_type_name(),
        "threads": int(made.get_property("INFERENCE_NUM_THREADS")),
        "activations": next(
            (k for k, v in GROUPS.items() if v == made.get_property(GROUP)), "other"
        ),
    }
    asked_for = {**plan.options, "activations": _activations(plan)}
    for key, obtained in facts.items():
        if obtained != asked_for[key]:
            wanted = asked_for[key]
            raise CandidateBroken(f"asked OpenVINO for {key} {wanted}, obtained {obtained}")
    return Compiled(made, facts)


def load(plan: Plan) -> Session:
    """Every bucket compiled; the dynamic plan where there are none."""
    core = openvino.Core()
    return Session(_read(core, plan.path), plan, lambda shaped: _compile(core, shaped, plan))


def _read(core: Any, path: Path) -> Any:
    try:
        return core.read_model(str(path))
    except Exception as error:  # as above
        raise CandidateBroken(f"OpenVINO cannot read the graph: {flat(error)[:400]}") from None
