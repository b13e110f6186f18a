"""Cross-layer equalisation: the channels between two convolutions are scaled to be alike in both.

    W1_i / s_i,  b1_i / s_i,  s_i W2_i,     s_i = sqrt(max|W1_i| / max|W2_i|)

It changes no output where what lies between is positively homogeneous (nothing, or a ReLU). Depthwise nets
need it: a channel of their own for each weight row leaves some rows a thousand times larger than others.
(Nagel et al., Data-Free Quantization, ICCV 2019, arXiv 1906.04721.) Repeated, until the scales
of chains of three settle.

A channel whose weights are next to nothing beside its bias keeps s = 1: it is a constant, as a folded
BatchNormalization leaves dead ones, and b / s would widen the range of all channels for its sake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from accel.qdq import order

PASSES = 10  # the authors' chains had settled by then
TOLERANCE = 0.01
DEAD = 2.0**-8  # of max|W1_i| / |b_i|: less than a step, where b_i is the top of what 8 bits hold


@dataclass(frozen=True)
class _Pair:
    """Two convolutions, and the values between them."""

    first: Any
    second: Any
    between: tuple[str, ...]


def equalized(proto: Any) -> tuple[Any, dict[str, NDArray[np.float32]]]:
    """The graph with its weights scaled, and value -> s [channels] by which it was divided."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    tensors = {t.name: t for t in made.graph.initializer}
    pairs = list(_pairs(made, tensors))
    weights = {t: numpy_helper.to_array(tensors[t]).copy() for p in pairs for t in _named(p) if t in tensors}  # fmt: skip
    total: dict[str, NDArray[np.float32]] = {}
    for _ in range(PASSES):
        moved = 0.0
        for pair in pairs:
            scale = _scale(pair, weights)
            moved = max(moved, float(np.abs(np.log(scale)).max()))
            _apply(pair, weights, scale)
            for name in pair.between:
                total[name] = total.get(name, np.float32(1)) * scale
        if moved < TOLERANCE:
            break
    for name, weight in weights.items():
        tensors[name].CopyFrom(numpy_helper.from_array(weight, name))
    return made, total


def _named(pair: _Pair) -> tuple[str, ...]:
    return (*pair.first.input[1:3], pair.second.input[1])


def _pairs(made: Any, tensors: Any) -> Iterator[_Pair]:
    readers: dict[str, list[Any]] = {}
    for node in made.graph.node:
        for name in order.reads(node):
            readers.setdefault(name, []).append(node)
    uses = order.uses(made)
    outputs = {v.name for v in made.graph.output}
    for node in made.graph.node:
        if not _own(node, tensors, uses):
            continue
        between, value = [node.output[0]], node.output[0]
        following = readers.get(value, [])
        while len(following) == 1 and following[0].op_type == "Relu" and value not in outputs:
            value = following[0].output[0]
            between.append(value)
            following = readers.get(value, [])
        if len(following) != 1 or value in outputs:
            continue
        last = following[0]
        if _own(last, tensors, uses) and _meets(node, last, tensors):
            yield _Pair(node, last, tuple(between))


def _own(node: Any, tensors: Any, uses: Counter[str]) -> bool:
    """A convolution whose weight and bias are constants of its own, and no outputs."""
    constants = node.input[1:3]
    return node.op_type == "Conv" and all(n in tensors and uses[n] == 1 for n in constants)


def _groups(node: Any) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def _meets(first: Any, second: Any, tensors: Any) -> bool:
    """Are the channels of one a plain or a depthwise axis of the other?"""
    out, dims = tensors[first.input[1]].dims[0], tensors[second.input[1]].dims
    groups = _groups(second)
    return bool((groups == 1 and dims[1] == out) or (groups == out == dims[0] and dims[1] == 1))


def _rows(weight: NDArray[Any], axis: int) -> NDArray[Any]:
    found: NDArray[Any] = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis))
    return found


def _axis(pair: _Pair) -> int:
    return 1 if _groups(pair.second) == 1 else 0


def _scale(pair: _Pair, weights: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    one = _rows(weights[pair.first.input[1]], 0)
    two = _rows(weights[pair.second.input[1]], _axis(pair))
    used = (one > 0) & (two > 0)
    for bias in pair.first.input[2:3]:
        used &= one > DEAD * np.abs(weights[bias])
    return np.where(used, np.sqrt(np.where(used, one, 1) / np.where(used, two, 1)), 1).astype(
        np.float32
    )


def _apply(pair: _Pair, weights: dict[str, NDArray[Any]], scale: NDArray[np.float32]) -> None:
    first, second = pair.first.input[1], pair.second.input[1]
    weights[first] /= scale.reshape(-1, *[1] * (weights[first].ndim - 1))
    for bias in pair.first.input[2:3]:
        weights[bias] /= scale
    shape = [-1 if i == _axis(pair) else 1 for i in range(weights[second].ndim)]
    weights[second] *= scale.reshape(shape)
