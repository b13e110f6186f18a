"""Mend Q/DQ nodes of a graph: each function changes a ModelProto in place and tells what it did, a line each.

What is exact is so to the bit in ONNX Runtime: q - z is the same number, whatever type q and z have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.legality._links import QUANTIZE, Graph
from accel.qdq import numbers
from accel.qdq.numbers import Steps

SYMMETRIC = Steps(signed=True, symmetric=True)
AXES = {"Conv": 0, "ConvTranspose": 1}


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
    graph, lines = Graph(proto), []
    for node, backs in graph.pairs():
        found = graph.numbers(node)
        if found is None or found[0].size > 1 or _is_symmetric(found[1]):
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
        lines.append(f"{name}: zero point {zero:g} became 0")
    for node, values in list(graph.weights()):
        found = graph.numbers(node)
        if found is None or _is_symmetric(found[1]) or values.dtype not in (np.int8, np.uint8):
            continue
        axis = axis_of(node, values.ndim) if found[0].size > 1 else None
        made = _steps(_back(values, found, node), axis, found[0])
        lines.append(f"{node.input[0]}: weights became symmetric int8")
        _replace(graph, node, *made, axis)
    return lines


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
