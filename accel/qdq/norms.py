"""Batch normalisation folded into the product before it, as engines do in float32 and can no longer where a pair
stands between the two.

    ((x W + b) - m) f + c  =  x (W f) + ((b - m) f + c),     f = g / sqrt(v + e)

g, c: its scale and offset; m, v: mean and variance of its training; e: epsilon. f is a number for each output
channel. (Jacob et al., Quantization and Training of Neural Networks, CVPR 2018, arXiv 1712.05877, section 3.2.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from accel.qdq import order

INTO = ("Conv", "ConvTranspose", "Gemm")
STANDARD = ("", "ai.onnx")
OPSET = 9
EPSILON = 1e-5  # where the node gives none (ONNX, BatchNormalization)
TAILS = ("__folded_weight", "__folded_bias")


@dataclass(frozen=True)
class _Pair:
    """A product, and the normalisation that alone reads it."""

    product: Any
    norm: Any
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]  # [channels]


def folded(proto: Any, kept: Collection[str] = ()) -> tuple[Any, int]:
    """The graph without the normalisations that can be folded, but for those of the values `kept`, and how many
    those were. Below opset 9, where they are told otherwise from those that train, it is left as it is.

    A product then makes the value that the normalisation made, and its site has the name that it had: what
    is known of one from the graph as it was is true of this one."""
    found = [p for p in _pairs(proto) if p.norm.input[0] not in kept]
    opset = max((o.version for o in proto.opset_import if o.domain in STANDARD), default=1)
    if not found or opset < OPSET:
        return proto, 0
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    _name(made)
    mark = order.mark(proto, ((p.product.output[0], tail) for p in found for tail in TAILS))
    behind = {p.product.output[0]: p for p in found}
    gone = {p.norm.output[0] for p in found}
    nodes = [n for n in made.graph.node if not gone.intersection(n.output)]
    for node in nodes:
        if pair := behind.get(next(iter(node.output), "")):
            _write(made, node, pair, mark)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    made.graph.ClearField("node")
    made.graph.node.extend(copies)
    told = [v for v in made.graph.value_info if v.name not in behind]
    made.graph.ClearField("value_info")
    made.graph.value_info.extend(told)
    made.ir_version = max(made.ir_version, order.INITIALIZERS_ALONE)
    order.drop_unread(made)
    return made, len(found)


def _pairs(proto: Any) -> Iterator[_Pair]:
    known = {t.name: t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    makers = {n.output[0]: n for n in proto.graph.node if n.output}
    uses = order.uses(proto)
    for norm in proto.graph.node:
        if not _fixed(norm, known):
            continue
        product = makers.get(norm.input[0])
        if product is not None and uses[norm.input[0]] == 1 and _constant(product, known):
            arrays = {n: numpy_helper.to_array(known[n]) for n in (*product.input, *norm.input) if n in known}  # fmt: skip
            if pair := _folded(product, norm, arrays):
                yield pair


def _fixed(node: Any, known: Mapping[str, Any]) -> bool:
    """A normalisation by constants; by the batch's own mean and variance it has a mode, or further outputs."""
    plain = node.op_type == "BatchNormalization" and node.domain in STANDARD
    trains = any(node.output[1:]) or any(a.name == "training_mode" and a.i for a in node.attribute)
    sizes = [tuple(known[n].dims) for n in node.input[1:] if n in known]
    alike = len(sizes) == 4 and len(sizes[0]) == 1 == len({*sizes})
    return plain and alike and not trains


def _constant(node: Any, known: Mapping[str, Any]) -> bool:
    """A product by a constant, and a constant bias or none."""
    plain = node.op_type in INTO and node.domain in STANDARD
    matrix = [len(known[n].dims) > 1 for n in node.input[1:2] if n in known] == [True]
    return plain and matrix and all(n in known for n in node.input[2:] if n)


def _folded(product: Any, norm: Any, arrays: Mapping[str, NDArray[Any]]) -> _Pair | None:
    """None where sizes do not fit, or a number would not be finite: as of a negative variance."""
    gain, offset, mean, variance = (arrays[n].astype(np.float64) for n in norm.input[1:5])
    options = {a.name: helper.get_attribute_value(a) for a in (*product.attribute, *norm.attribute)}
    bias = arrays.get(product.input[2] if len(product.input) > 2 else "", np.zeros(1))
    if bias.size not in (1, len(gain)) or bias.shape[-1:] not in ((), (bias.size,)):
        return None  # a Gemm's may be a number a row
    with np.errstate(all="ignore"):
        factor = gain / np.sqrt(variance + options.get("epsilon", EPSILON))
        weight = _scaled(product, options, arrays[product.input[1]].astype(np.float64), factor)
        moved = (options.get("beta", 1.0) * bias.ravel() - mean) * factor + offset
        if weight is None or moved.shape != factor.shape:
            return None
        pair = _Pair(product, norm, weight.astype(np.float32), moved.astype(np.float32))
    return pair if np.isfinite(pair.weight).all() and np.isfinite(pair.bias).all() else None


def _scaled(
    node: Any, options: Mapping[str, Any], weight: NDArray[Any], factor: NDArray[Any]
) -> NDArray[Any] | None:
    """W f; None where f has not a number for each channel that the product makes."""
    shape = [1] * weight.ndim
    if node.op_type == "ConvTranspose":  # [inputs, channels / groups, ...]
        groups = int(options.get("group", 1))
        if groups * weight.shape[1] != len(factor) or weight.shape[0] % groups:
            return None
        factor = factor.reshape(groups, -1).repeat(weight.shape[0] // groups, axis=0)
        shape[:2] = factor.shape
    else:
        axis = 1 if node.op_type == "Gemm" and not options.get("transB") else 0
        if weight.shape[axis] != len(factor):
            return None
        shape[axis] = len(factor)
    found: NDArray[Any] = weight * factor.reshape(shape)
    return found


def _name(made: Any) -> None:
    """What has no name of its own gets that of its first output, in place, which is its site's (qdq.sites)."""
    named = Counter(n.name for n in made.graph.node)
    for node in made.graph.node:
        if node.output and (not node.name or named[node.name] > 1):
            node.name = node.output[0]


def _write(made: Any, node: Any, pair: _Pair, mark: str) -> None:
    """The product in both's stead, in place; a weight that others read stays theirs."""
    names = [f"{node.output[0]}{mark}{tail}" for tail in TAILS]
    values = zip((pair.weight, pair.bias), names, strict=True)
    made.graph.initializer.extend(numpy_helper.from_array(v, n) for v, n in values)
    node.input[:] = [node.input[0], *names]
    node.output[0] = pair.norm.output[0]
    kept = [a for a in node.attribute if a.name != "beta"]  # it is in the bias
    node.ClearField("attribute")
    node.attribute.extend(kept)
