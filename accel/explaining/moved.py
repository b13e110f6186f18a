"""The reference as its weights were moved before they were rounded: the same function, in the candidate's terms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from accel.explaining.parts import PLUMBING
from accel.explaining.view import HALF_FORM, SMOOTH, View, aligned
from accel.qdq import order

LEAST = 1e-12  # of a weight's squares: what is off by less is off by nothing
MATRICES = ("MatMul", "Gemm")
TAILS = ("__by", "__moved")


def nearer(candidate: View, one: View, two: View) -> bool:
    """Of two forms of the reference: are the candidate's weights, where these differ, those of the second?

    By the ratio of what they are off, over all: one whose scale is wrong is far from both."""
    told = 0.0
    for value, form in aligned(one, candidate).items():
        a, b = _weight(one, value), _weight(two, value)
        now = _weight(candidate, form)
        if a is None or b is None or now is None or not a.shape == b.shape == now.shape:
            continue
        least = LEAST * float(np.square(a).sum())
        if least > 0 and not np.array_equal(a, b):
            told += math.log(max(_off(now, a), least) / max(_off(now, b), least))
    return told > 0


def _weight(view: View, value: str) -> NDArray[Any] | None:
    node = view.node(value)
    found = None if node is None or len(node.input) < 2 else view.array(node.input[1])
    return found if found is not None and found.dtype.kind == "f" else None


def _off(now: NDArray[Any], then: NDArray[Any]) -> float:
    return float(np.square(now.astype(np.float64) - then).sum())


@dataclass(frozen=True)
class _Move:
    """x / s, and what reads it."""

    out: str  # x / s
    source: str  # x
    by: NDArray[np.float32]  # 1 / s, [channels]
    products: tuple[str, ...]  # what they make


def migrated(reference: View, candidate: View) -> View:
    """The reference with the scales migrated that the candidate has migrated: x W = (x / s) (s W)."""
    found = tuple(_moves(reference, candidate))
    if not found:
        return reference
    made = onnx.ModelProto()
    made.CopyFrom(reference.proto)
    heads = [head for move in found for head in (move.out, *move.products)]
    mark = order.mark(made, ((head, tail) for head in heads for tail in TAILS))
    behind: dict[str, list[Any]] = {}
    for move in found:
        by = numpy_helper.from_array(move.by, f"{move.out}{mark}__by")
        made.graph.initializer.append(by)
        divided = helper.make_node("Mul", [move.source, by.name], [move.out], move.out)
        behind.setdefault(move.source, []).append(divided)
        for value in move.products:
            node = made.graph.node[reference.makers[value]]
            weight = numpy_helper.to_array(reference.constants[node.input[1]])
            shape = [-1 if i == _axis(node, weight.ndim) else 1 for i in range(weight.ndim)]
            moved = numpy_helper.from_array(
                weight / move.by.reshape(shape), f"{value}{mark}__moved"
            )
            made.graph.initializer.append(moved)
            node.input[:2] = [move.out, moved.name]
    order.insert(made, (), behind)
    order.drop_unread(made)
    return View(made)


def _moves(reference: View, candidate: View) -> Iterator[_Move]:
    forms = {form: name for name, form in aligned(reference, candidate).items()}
    for node in candidate.proto.graph.node:
        out = next(iter(node.output), "").removesuffix(HALF_FORM)
        if node.op_type != "Mul" or not out.endswith(SMOOTH) or out in reference.makers:
            continue
        source, by = forms.get(node.input[0]), candidate.array(node.input[1])
        if source is None or by is None or by.ndim != 1:
            continue
        made = dict.fromkeys(forms.get(o, "") for o in _behind(candidate, node.output[0]))
        products = tuple(v for v in made if _multiplies(reference, v, source, len(by)))
        if products:
            yield _Move(out, source, by.astype(np.float32), products)


def _behind(view: View, value: str) -> Iterator[str]:
    """What is made of a value, through pairs and casts."""
    left = [value]
    while left:
        for index, _ in view.readers.get(left.pop(), ()):
            node = view.proto.graph.node[index]
            if node.op_type in PLUMBING:
                left += node.output
            else:
                yield from node.output


def _multiplies(reference: View, value: str, source: str, channels: int) -> bool:
    """Is a value the product of the source, its channels last, by a constant matrix?"""
    node = reference.node(value)
    if node is None or node.op_type not in MATRICES or node.input[0] != source:
        return False
    weight = reference.constants.get(node.input[1])
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    if weight is None or weight.data_type != onnx.TensorProto.FLOAT or turned:
        return False
    axis = _axis(node, len(weight.dims))
    return bool(len(weight.dims) > 1 and weight.dims[axis] == channels)


def _axis(node: Any, dims: int) -> int:
    """Of a weight: the axis that the activation's channels meet."""
    return 1 if any(a.name == "transB" and a.i for a in node.attribute) else dims - 2
