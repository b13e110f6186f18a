"""Mend Q/DQ nodes of a graph: each function changes a ModelProto in place and tells what it did, a line each.

What is exact is so to the bit in ONNX Runtime: q - z is the same number, whatever type q and z have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from accel.legality._links import DEQUANTIZE, QUANTIZE, Graph
from accel.qdq import numbers, order
from accel.qdq.numbers import Steps

SYMMETRIC = Steps(signed=True, symmetric=True)
AXES = {"Conv": 0, "ConvTranspose": 1}
STANDARD = ("", "ai.onnx")
ABOVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs")  # what they make is never below 0
MOVES = (
    "Identity",
    "Reshape",
    "Flatten",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
)  # nor is what these make, where what they read is not
FARTHEST = 4  # of them in a row are looked past


def written_axis(node: Any) -> int:
    """Along which its scales lie, as it is written: below 0 it counts from the last one."""
    return int(next((a.i for a in node.attribute if a.name == "axis"), 1))


def axis_of(node: Any, ndim: int) -> int:
    """Along which its scales lie, of a value with so many axes."""
    return written_axis(node) % max(ndim, 1)


def set_zero(graph: Graph, node: Any, zero: str) -> None:
    """Give a node its zero point, which it may have had none of, and whose type is that of the integers."""
    del node.input[2:]
    node.input.append(zero)
    if node.op_type == QUANTIZE:  # of a DequantizeLinear it is the type of the floats
        _drop(node, "output_dtype")
        noted = graph.proto.graph.value_info
        for old in [v for v in noted if v.name == node.output[0]]:  # of the integers that they were
            noted.remove(old)


def folded_weights(proto: Any) -> list[str]:
    """A float weight that is quantized anew at each start is kept as int8: exact."""
    graph, lines, gone = Graph(proto), [], []
    for node, backs in graph.pairs():
        weight, found = graph.array(node.input[0]), graph.numbers(node)
        if weight is None or found is None or found[1].dtype not in (np.int8, np.uint8):
            continue
        kind, (scale, zero) = np.iinfo(found[1].dtype), (_along(x, weight, node) for x in found)
        whole = np.clip(np.round(weight / scale) + zero, kind.min, kind.max).astype(found[1].dtype)
        name = graph.constant(
            f"{node.output[0]}__folded", whole
        )  # a weight may be rounded in two ways
        for back in backs:
            back.input[0] = name
        gone.append(node)
        lines.append(f"{node.input[0]}: its rounding is done beforehand")
    for node in gone:
        proto.graph.node.remove(node)
    return lines


def along_channels(proto: Any) -> list[str]:
    """Scales of a weight that lie along another axis are chosen anew: off by half a step at most."""
    graph, lines = Graph(proto), []
    for node, values in list(graph.weights()):
        found, wanted = graph.numbers(node), channel_axis(graph, node, values.ndim)
        if found is None or wanted is None or found[0].size == 1 or values.ndim < 2:
            continue
        if values.dtype not in (np.int8, np.uint8):
            continue  # what is made anew is int8: narrower types are smaller, int16 is more exact
        if axis_of(node, values.ndim) == wanted:
            continue
        weight = _back(values, found, node)
        _replace(graph, node, *_steps(weight, wanted, found[0]), wanted)
        lines.append(f"{node.output[0]}: scales along axis {wanted}, its output channels")
    return lines


def symmetric(proto: Any) -> list[str]:
    """Every zero point 0, every type int8: off by a step, of a range that is up to twice as wide."""
    graph = Graph(proto)
    return [*_symmetric_pairs(graph), *_symmetric_weights(graph)]


def _symmetric_pairs(graph: Graph) -> list[str]:
    """Of activations. Where 0 is the least that a pair lets through, it may stand in a Relu's stead, as
    ONNX Runtime's quantizer leaves it: a symmetric one would let values below 0 pass, so a Relu is put back."""
    lines, relus = [], _Relus(graph)
    for node, backs in graph.pairs():
        found = graph.numbers(node)
        if found is None or found[0].size > 1 or found[1].dtype.kind not in "iu":
            continue  # such as 4 bits, of which numpy has no type of its own: what is made is int8
        if _is_symmetric(found[1]) or not graph.alike(node, backs):
            continue
        kind, (scale, zero) = np.iinfo(found[1].dtype), (float(x.reshape(-1)[0]) for x in found)
        ends = (kind.min - zero) * scale, (kind.max - zero) * scale
        wide, middle = numbers.of_range(*ends, SYMMETRIC)
        name = node.input[0]
        own = node.output[0]
        zero_name = graph.constant(f"{own}__symmetric_zero", middle)
        for one in (node, *backs):
            held = _held(wide, graph.array(one.input[1]))
            one.input[1] = graph.constant(f"{own}__symmetric_scale", held)
            set_zero(graph, one, zero_name)
        put = zero == kind.min and relus.put(node)
        lines.append(f"{name}: zero point {zero:g} became 0{', behind a Relu' if put else ''}")
    relus.insert()
    return lines


def _symmetric_weights(graph: Graph) -> list[str]:
    lines = []
    for node, values in list(graph.weights()):
        found = graph.numbers(node)
        if found is None or values.dtype not in (np.int8, np.uint8) or _is_symmetric(found[1]):
            continue
        axis = axis_of(node, values.ndim) if found[0].size > 1 else None
        made = _steps(_back(values, found, node), axis, found[0])
        lines.append(f"{node.input[0]}: weights became symmetric int8")
        _replace(graph, node, *made, axis)
    return lines


class _Relus:
    """Relu nodes before roundings of values that may be below 0, one for each value; put in at once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._made: dict[str, Any] = {}
        given = (v.name for v in graph.proto.graph.input)
        self._places = {*graph.makers, *given} - {*graph.constants}  # a node can follow these
        self._floored = {
            node.output[0]
            for node in graph.proto.graph.node
            if order.rounds(node, DEQUANTIZE) and _floored(graph.numbers(node))
        }  # looked at before zero points change: their values stay at 0 and above

    def put(self, node: Any) -> bool:
        """Have a QuantizeLinear read a value through a Relu, where that may change it. Not so a weight: its
        scale is of its own values, which nothing clamps, and behind a node it could not be folded."""
        name = node.input[0]
        if name not in self._places or not self._may_be_below(name):
            return False
        if name not in self._made:
            above, own = (self._graph.fresh(f"{name}__{what}") for what in ("above", "relu"))
            self._made[name] = helper.make_node("Relu", [name], [above], own)
        node.input[0] = self._made[name].output[0]
        return True

    def insert(self) -> None:
        """The graph's nodes are copied: those that were at hand are no longer of it."""
        if self._made:
            order.insert(self._graph.proto, (), {n: [made] for n, made in self._made.items()})

    def _may_be_below(self, name: str) -> bool:
        """May a value be below 0, as far as can be seen?"""
        for _ in range(FARTHEST):
            maker = self._graph.makers.get(name)
            if name in self._floored:
                return False
            if maker is None or maker.domain not in STANDARD:
                return True
            if maker.op_type in ABOVE or (maker.op_type == "Clip" and self._clips(maker)):
                return False
            if maker.op_type not in MOVES:
                return True
            name = maker.input[0]
        return True

    def _clips(self, clip: Any) -> bool:
        """At 0 or above: by its attribute, as before opset 11, or by an initializer."""
        told = next((a.f for a in clip.attribute if a.name == "min"), -1.0)
        low = self._graph.array(clip.input[1]) if len(clip.input) > 1 and clip.input[1] else None
        return bool(told >= 0 or (low is not None and np.all(low >= 0)))


def _floored(found: tuple[NDArray[Any], NDArray[Any]] | None) -> bool:
    """Is 0 the least that integers of these numbers stand for?"""
    if found is None or found[1].dtype.kind not in "iu":
        return False
    return bool(np.all(found[1] == np.iinfo(found[1].dtype).min))


def channel_axis(graph: Graph, node: Any, ndim: int) -> int | None:
    """The axis of output channels in the one product that reads a weight as its second factor."""
    readers = graph.readers.get(node.output[0], [])
    if len(readers) != 1 or len(readers[0].input) < 2 or readers[0].input[1] != node.output[0]:
        return None
    product = readers[0]
    if product.op_type == "Gemm":
        turned = any(a.name == "transB" and a.i for a in product.attribute)
        return 0 if turned else 1
    if product.op_type == "ConvTranspose" and any(
        a.name == "group" and a.i > 1 for a in product.attribute
    ):
        return None
    return ndim - 1 if product.op_type == "MatMul" else AXES.get(product.op_type)


def _is_symmetric(zero: NDArray[Any]) -> bool:
    return zero.dtype != np.uint8 and not np.any(zero)


def _along(values: NDArray[Any], whole: NDArray[Any], node: Any) -> NDArray[Any]:
    if values.size == 1:
        return values.reshape(-1)[:1].reshape(()).astype(np.float32)
    axis = axis_of(node, whole.ndim)
    return values.reshape([-1 if i == axis else 1 for i in range(whole.ndim)]).astype(np.float32)


def _back(
    values: NDArray[Any], found: tuple[NDArray[Any], NDArray[Any]], node: Any
) -> NDArray[Any]:
    scale, zero = (_along(x, values, node) for x in found)
    back: NDArray[Any] = (values.astype(np.float32) - zero) * scale
    return back


def _held(scale: Any, old: NDArray[Any] | None) -> NDArray[Any]:
    """A scale in the type of the old one, which the values' type follows; rounded up, so never to 0."""
    kind = np.dtype(np.float32) if old is None else old.dtype
    held = np.asarray(scale).astype(kind)
    up: NDArray[Any] = np.where(held < scale, np.nextafter(held, kind.type(np.inf)), held)
    return up


def _steps(weight: NDArray[Any], axis: int | None, old: NDArray[Any]) -> tuple[Any, Any, Any]:
    """Integers, scales and zero points; the integers are of the scales as their type holds them."""
    whole, scale, zero = numbers.of_weight(weight, axis, SYMMETRIC)
    held = _held(scale, old)
    if held.dtype != scale.dtype:
        whole, _, zero = numbers.of_weight(weight, axis, SYMMETRIC, held.astype(np.float32))
    return whole, held, zero


def _replace(graph: Graph, node: Any, whole: Any, scale: Any, zero: Any, axis: int | None) -> None:
    name = node.output[0]
    node.input[:] = [
        graph.constant(f"{name}__{what}_again", values)
        for what, values in (("int8", whole), ("scale", scale), ("zero", zero))
    ]
    _drop(node, "axis")
    if axis is not None:
        made = node.attribute.add()
        made.name, made.i, made.type = "axis", axis, 2  # INT, in onnx.AttributeProto


def _drop(node: Any, name: str) -> None:
    """Take out an attribute, where it is there."""
    kept = [a for a in node.attribute if a.name != name]
    node.ClearField("attribute")
    node.attribute.extend(kept)
