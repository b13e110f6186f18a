"""bf16: bfloat16 written into the graph; OpenVINO gets the fp32 graph, and its hint.

bfloat16 has float32's range and 8 bits (2^-9 of rounding), so no calibration tells what fits. A node
stays float32 where

    ONNX gives its operator no bfloat16 at the graph's opset (most from 13 on, convolutions from 22)
    the engine that the style is of has no kernel of it
    it sums, squares or takes exponentials, or leads to an angle, an integer or a scale of Resize

Inputs and outputs stay float32. The graph is not portable: ONNX Runtime has few bfloat16 kernels on a
CPU, and refuses it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy
import onnx
from onnx import numpy_helper

from accel import graph
from accel.errors import CandidateBroken
from accel.protocols import Quantized
from accel.recipes import _halves, _kept
from accel.recipes._halves import BRAIN, Floats
from accel.values import Feed, Model, Options, QuantStyle

NEEDS_CALIBRATION = False
MOST = numpy.float32(2.0**128 - 2.0**120)  # bfloat16's largest: 8 bits, all of them ones


def variants(style: QuantStyle) -> tuple[Options, ...]:
    """One."""
    return ({},)


def apply(
    model: Model,
    calibration: Iterable[Feed] | None,
    style: QuantStyle,
    options: Options,
    out: Path,
) -> Quantized:
    """Raises CandidateBroken where nothing is left in bfloat16."""
    path = out / "model.onnx"
    if "openvino" in style.operators:
        graph.copy(model.path, path)
        hinted = graph.describe(path, (*model.trail, "bf16 by the runtime's hint"))
        return Quantized(hinted, {"hint": "bf16"}, portable=False, only="openvino")
    found = _halves.read(_bounded(graph.dense(model.path)))
    brains, kept = _judged(found, style)
    told = _kept.reasons(kept)
    if not brains:
        raise CandidateBroken(
            f"nothing is left in bfloat16: {told} of {len(found.nodes)} float nodes at opset "
            f"{_halves.opset(found.proto)}; ONNX has bfloat16 from 13 on, for convolutions from 22"
        )
    graph.save(_halves.write(found, brains, BRAIN), path)
    facts: dict[str, Any] = {
        "bf16": f"{len(brains)} of {len(found.nodes)} nodes",
        "kept in fp32": told,
    }
    line = f"bf16 {facts['bf16']}; kept in fp32: {told}"
    described = graph.describe(path, (*model.trail, line))
    reader = style.operators[0] if style.operators else "tensorrt"
    return Quantized(described, facts, portable=False, only=reader)


def _bounded(proto: Any) -> Any:
    """The graph with finite constants that bfloat16 would round to an infinity at its largest number.

    Masks hold float32's least: as -inf, a row that is masked as a whole would come out as NaN."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    values = (a.t for n in made.graph.node for a in n.attribute if a.name == "value")
    for tensor in (*made.graph.initializer, *values):
        array = (
            numpy_helper.to_array(tensor)
            if tensor.data_type == onnx.TensorProto.FLOAT
            else numpy.zeros(0)
        )
        beyond = numpy.isfinite(array) & (numpy.abs(array) > MOST)
        if beyond.any():
            nearest = numpy.where(beyond, numpy.copysign(MOST, array), array)
            tensor.CopyFrom(numpy_helper.from_array(nearest, tensor.name))
    return made


def _judged(found: Floats, style: QuantStyle) -> tuple[dict[int, frozenset[str]], Counter[str]]:
    """The nodes in bfloat16 (by index) with their values, and how many are kept, by reason."""
    brains: dict[int, frozenset[str]] = {}
    kept: Counter[str] = Counter()
    floats, opset = frozenset({*found.values, *found.constants}), _halves.opset(found.proto)
    exact = _kept.exact(found)
    for i, node in found.nodes:
        names = _halves.ports(node, floats, opset, BRAIN)
        if names is None:
            kept["no bfloat16"] += 1
        elif "onnxruntime_cuda" in style.operators and node.op_type not in _kept.CUDA_BFLOAT16:
            kept["no kernel"] += 1
        elif i in exact:
            kept["exact"] += 1
        elif node.op_type in _kept.SENSITIVE:
            kept["sensitive"] += 1
        else:
            brains[i] = names
    for i in _kept.between(found, brains):
        del brains[i]
        kept["between"] += 1
    return brains, kept
