"""QuantizeLinear and DequantizeLinear as TensorRT's explicit quantization wants them.

Symmetric: every zero point 0, signed. Scales constant and positive. Weights per channel of the output
axis. A residual Add in int8 needs Q/DQ on both of its branches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import onnx
from onnx import numpy_helper

from accel.legality import _graph, _pairs, _tensorrt
from accel.qdq import order
from accel.values import Finding, Request, Target

ENGINES = _tensorrt.ENGINES
PAIR = ("QuantizeLinear", "DequantizeLinear")
WEIGHTED = {"Conv": 0, "Gemm": None, "MatMul": None, "ConvTranspose": 1}  # axis of output channels
THROUGH = (
    "Relu",
    "Clip",
    "Identity",
    "Reshape",
    "Transpose",
    "MaxPool",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
)
ZERO = "NVIDIA/TensorRT#2774: 'TRT only supports symmetric quantization - zeroPt must be all zeros'"
SCALE = "NVIDIA/TensorRT#2498: 'Scale coefficients must all be positive'"
COUNT = "NVIDIA/TensorRT#994: 'Assertion failed: K == scale.count()'"
SIGN = f"{_tensorrt.LIST_10_15}: DequantizeLinear of INT8, FP8, FP4, INT4"
ADD = "NVIDIA/TensorRT#1992: 'you need to add Q/DQ pair in the residual add branch'"
BIAS = (
    "onnx/onnx-tensorrt importers, 10.1 GA (2024-06-17): "
    "'TensorRT only allows FP8, INT8, and INT4 quantization'"
)
SYMMETRIC = _tensorrt.FIX


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Every Q and DQ, and the additions between them."""
    if not any(n.operator in PAIR for n in graph.standard()):
        return
    for node in graph.standard():
        if node.operator in PAIR:
            yield from _zero_point(graph, node)
            yield from _scale(graph, node)
        elif node.operator in WEIGHTED:
            yield from _axis(graph, node)
        elif node.operator == "Add":
            yield from _residual(graph, node)
    yield from _unread(graph)


def _zero_point(graph: _graph.Graph, node: _graph.Node) -> Iterator[Finding]:
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    kind = graph.dtype(name) if name else _quantized_kind(graph, node)
    value = graph.value(name) if name else numpy.zeros(1)
    if value is None:
        said = "a zero point that is computed, or too large to look at; it must be constant and 0"
        yield Finding("qdq", "unknown", said, node.place, node.operator, ZERO)
    elif numpy.any(value.astype(numpy.float32) != 0):
        seen = value.ravel()[numpy.argmax(numpy.abs(value.astype(numpy.float32)))]
        said = f"asymmetric: a zero point of {seen}; TensorRT takes 0 only"
        yield Finding("qdq", "error", said, node.place, node.operator, ZERO, SYMMETRIC)
    elif kind == "INT32":
        said = "INT32 values, as of a quantized bias; TensorRT quantizes to INT8, INT4, FP8 and FP4"
        mend = _tensorrt.FIX if node.inputs[0] in graph.constants else ""
        yield Finding("qdq", "error", said, node.place, node.operator, BIAS, mend)
    elif kind in ("UINT8", "UINT4", "INT16", "UINT16"):
        said = f"{kind} values; TensorRT quantizes to INT8, INT4, FP8 and FP4"
        yield Finding("qdq", "error", said, node.place, node.operator, SIGN, SYMMETRIC)


def _quantized_kind(graph: _graph.Graph, node: _graph.Node) -> str:
    """Without a zero point ONNX's default is uint8 for Q; DQ's input tells its own."""
    if node.operator == "DequantizeLinear":
        return graph.dtype(node.inputs[0])
    return graph.dtype(node.outputs[0]) or "UINT8"


def _scale(graph: _graph.Graph, node: _graph.Node) -> Iterator[Finding]:
    name = node.inputs[1]
    if name not in graph.constants:
        said = "a scale that is computed; it must be constant"
        yield Finding("qdq", "error", said, node.place, node.operator, SCALE)
        return
    value = graph.value(name)
    if value is not None and not numpy.all(value.astype(numpy.float64) > 0):
        said = f"a scale of {float(value.astype(numpy.float64).min()):g}; it must be above 0"
        yield Finding("qdq", "error", said, node.place, node.operator, SCALE)
    yield from _scales_count(graph, node)


def _scales_count(graph: _graph.Graph, node: _graph.Node) -> Iterator[Finding]:
    """As many scales as the axis has channels; blocks are a matter of their own."""
    found, sizes = graph.sizes.get(node.inputs[1]), graph.sizes.get(node.inputs[0])
    if not found or sizes is None or found == (1,) or node.attributes.get("block_size", 0):
        return
    axis = int(node.attributes.get("axis", 1))
    size = sizes[axis] if -len(sizes) <= axis < len(sizes) else None
    if len(found) == 1 and isinstance(size, int) and size != found[0]:
        said = f"{found[0]} scales for {size} channels of axis {axis}"
        yield Finding("qdq", "error", said, node.place, node.operator, COUNT)


def _source(graph: _graph.Graph, name: str) -> _graph.Node | None:
    """The DQ that a value comes from, past operators that only move values."""
    node, seen = graph.producers.get(name), {name}
    while node is not None and _moves(node):
        if (name := node.inputs[0]) in seen:
            return None  # in a circle
        seen.add(name)
        node = graph.producers.get(name)
    back = node is not None and node.operator == PAIR[1] and node.domain in _graph.STANDARD
    return node if back else None


def _axis(graph: _graph.Graph, node: _graph.Node) -> Iterator[Finding]:
    """A weight's scales lie along the output channels, and both operands are quantized, or none."""
    made = [_source(graph, n) for n in node.inputs[:2]]
    if made[0] is None and _compressed(graph, made[1]):
        return
    if (made[0] is None) != (made[1] is None):
        side = "weight" if made[0] is None else "activation"
        said = f"{node.operator} with a quantized {side} only: it runs in float, its Q/DQ cost time"
        source = "NVIDIA/TensorRT#3861, its Q/DQ placement recommendations"
        yield Finding("qdq", "warning", said, node.place, node.operator, source)
    weight, wanted = made[1], WEIGHTED[node.operator]
    scales = graph.sizes.get(weight.inputs[1]) if weight is not None else None
    if weight is None or wanted is None or not scales or scales == (1,) or len(scales) > 1:
        return
    if weight.outputs[0] != node.inputs[1]:
        return  # a Transpose or a Reshape in between may have moved the axis
    axis, given = int(weight.attributes.get("axis", 1)), graph.constants.get(weight.inputs[0])
    if given is not None and axis % max(len(given.dims), 1) != wanted:
        said = f"{node.operator}: the weight's scales lie along axis {axis}; output channels are axis {wanted}"
        yield Finding("qdq", "error", said, weight.place, node.operator, COUNT)


def _compressed(graph: _graph.Graph, weight: _graph.Node | None) -> bool:
    """int4 in blocks is read as it is, beside float activations. (NVIDIA TensorRT, "Working with Quantized
    Types": weight-only quantization, INT4 and block quantization)"""
    if weight is None or not weight.attributes.get("block_size", 0):
        return False
    return graph.dtype(weight.inputs[0]) == "INT4"


def _residual(graph: _graph.Graph, node: _graph.Node) -> Iterator[Finding]:
    """A sum that is quantized again, of which one branch alone is."""
    if any(n in graph.constants for n in node.inputs):
        return
    quantized = [_source(graph, n) is not None for n in node.inputs]
    readers = _readers(graph, node.outputs[0])
    if any(quantized) != all(quantized) and any(r.operator == "QuantizeLinear" for r in readers):
        said = "a residual Add with Q/DQ on one branch only: it runs in float, with a conversion"
        yield Finding("qdq", "warning", said, node.place, "Add", ADD)


def _readers(graph: _graph.Graph, name: str) -> list[_graph.Node]:
    found: list[_graph.Node] = []
    left, seen = [name], {name}
    while left:  # without recursion: graphs are deep
        for node in graph.consumers.get(left.pop(), ()):
            if not _moves(node):
                found.append(node)
            elif node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                left.append(node.outputs[0])
    return found


def _moves(node: _graph.Node) -> bool:
    """Another domain's may have the name, and neither inputs nor outputs."""
    return node.operator in THROUGH and node.domain in _graph.STANDARD


def _unread(graph: _graph.Graph) -> Iterator[Finding]:
    """A Q whose values nothing takes back to float is an int8 output or an integer operator's input."""
    for node in graph.standard():
        if node.operator != "QuantizeLinear":
            continue
        others = {r.operator for r in graph.consumers.get(node.outputs[0], ())} - {
            PAIR[1],
            *THROUGH,
        }
        if others:
            said = f"quantized values go into {', '.join(sorted(others))}; they must go through a DequantizeLinear"
            source = f"{_tensorrt.LIST_10_15}: quantized types, by Q/DQ only"
            yield Finding("qdq", "error", said, node.place, node.operator, source)


def fix(graph: _graph.Graph, target: Target) -> tuple[Any, list[str]]:
    """A bias that was quantized to INT32 becomes the float values that its DequantizeLinear gives; pairs
    with zero points become symmetric ones, whose steps may be twice as wide."""
    made = onnx.ModelProto()
    made.CopyFrom(graph.proto)
    tensors = {t.name: t for t in made.graph.initializer}
    lines = []
    for node in list(made.graph.node):
        given = tensors.get(node.input[0]) if order.rounds(node, PAIR[1]) else None
        if (
            given is None
            or given.data_type != onnx.TensorProto.INT32
            or node.input[1] not in tensors
        ):
            continue
        values = numpy_helper.to_array(given), numpy_helper.to_array(tensors[node.input[1]])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if not _fits(*values, axis):
            continue
        made.graph.initializer.append(
            numpy_helper.from_array(_dequantized(*values, axis), node.output[0])
        )
        made.graph.node.remove(node)
        lines.append(f"{node.output[0]}: INT32 values dequantized to a constant")
    lines += _pairs.symmetric(made)
    if lines:
        order.drop_unread(made)
    return (made, lines) if lines else (graph.proto, [])


def _fits(values: Any, scale: Any, axis: int) -> bool:
    """One scale, or one for each index of the axis."""
    if scale.size == 1:
        return True
    inside = -values.ndim <= axis < values.ndim or values.ndim == 1
    return bool(inside and scale.shape == values.shape[axis % values.ndim :][:1])


def _dequantized(values: Any, scale: Any, axis: int) -> Any:
    """values * scale; a zero point of INT32 is 0 by ONNX's schema."""
    if scale.ndim == 1 and values.ndim > 1 and scale.size > 1:
        scale = scale.reshape([-1 if i == axis % values.ndim else 1 for i in range(values.ndim)])
    wide = values.astype(numpy.float64) * scale.astype(numpy.float64)  # float16 ends at 65504
    return wide.astype(scale.dtype)
