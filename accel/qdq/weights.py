"""Write a product's weight as int8, and correct or quantize its bias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from accel.qdq import correct, numbers, order
from accel.qdq.numbers import Steps
from accel.qdq.sites import Site
from accel.sketch import Sketch

CORRECTED = "__corrected"
TAILS = ("__int", "__scale", "__zero", "__float", "__DQ")
NEW = "bias"  # of one that a convolution gets, while it has no other name


@dataclass(frozen=True)
class _Bias:
    """A constant that is added to each channel of a product."""

    node: Any  # that adds it: the product itself, or the Add behind a MatMul
    slot: int
    values: NDArray[Any]  # [channels]


@dataclass(frozen=True)
class Wanted:
    """How products read their constants."""

    scales: Mapping[str, float]  # of the activations
    steps: Steps
    per_channel: bool
    bias: bool  # int32 ones
    means: Mapping[str, Sketch]  # of the activations, where biases are to be corrected
    mark: str = ""  # of new names (order.mark)


def names(proto: Any, products: Sequence[Site]) -> Iterator[tuple[str, str]]:
    """What `written` makes, for order.mark."""
    for site in products:
        yield site.name, CORRECTED
        inputs = (*proto.graph.node[site.index].input, NEW)
        yield from ((site.name, f"__{name}{tail}") for name in inputs for tail in TAILS)


def written(made: Any, proto: Any, products: Sequence[Site], wanted: Wanted) -> list[Any]:
    """Change these products of `made`, a copy of `proto` with the same nodes, to read int8 weights.

    Returns the nodes that give the constants back as float32."""
    known = {t.name: t for t in proto.graph.initializer}
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(proto.graph.node):
        for name in order.reads(node):
            readers.setdefault(name, []).append(i)
    nodes: list[Any] = []
    for site in products:
        if site.weight is not None:
            added = _bias(made, proto, site, known, readers)
            weight = numpy_helper.to_array(known[site.weight.name])
            nodes += _product(made, proto.graph.node[site.index], site, weight, added, wanted)
    return nodes


def _product(
    made: Any, original: Any, site: Site, weight: NDArray[Any], added: _Bias | None, wanted: Wanted
) -> list[Any]:
    """One product: its weight, then its bias."""
    assert site.weight is not None
    node, activation = made.graph.node[site.index], original.input[site.activations[0]]
    title = f"{site.name}{wanted.mark}"
    axis = site.weight.axis if wanted.per_channel else None
    scale = wanted.scales[activation]
    joins = wanted.bias and added is not None and _joins(original, added, weight, axis)
    least = numbers.least_scale(added.values if joins and added else None, scale)
    least = least if axis is not None else float(np.max(least))
    found = numbers.of_weight(weight, axis, wanted.steps, least)
    nodes = [_constant(made, node, site.weight.slot, found, axis, title)]
    moved = correct.shift(original, site, weight - _back(found, axis), wanted.means.get(activation))
    bare = original.op_type == "Conv" and len(original.input) == 2
    if added is None and moved is not None and bare:
        node.input.append(NEW)  # the name is replaced below
        added, joins = _Bias(node, 2, np.zeros_like(moved)), wanted.bias
    if added is None:
        return nodes
    if moved is not None and moved.shape == added.values.shape:
        added = _Bias(added.node, added.slot, added.values + moved)
        if not joins:
            _replace(made, added, title + CORRECTED)
    return [*nodes, _whole(made, added, scale, found[1], title)] if joins else nodes


def _bias(
    made: Any, proto: Any, site: Site, known: Mapping[str, Any], readers: Mapping[str, list[int]]
) -> _Bias | None:
    """The product's own, or that of the Add which alone reads it."""
    node = proto.graph.node[site.index]
    if site.bias is not None:
        values = numpy_helper.to_array(known[node.input[site.bias]])
        if not values.ndim or values.size != values.shape[-1] or site.weight is None or site.weight.slot != 1:  # fmt: skip
            return None  # a Gemm's may also be a number a row, or one for all
        return _Bias(made.graph.node[site.index], site.bias, values.ravel())
    if node.op_type in ("Conv", "ConvTranspose"):
        return None  # what has one axis is added along the last one, which is not the channels'
    after = readers.get(node.output[0], [])
    if len(after) != 1 or proto.graph.node[after[0]].op_type != "Add":
        return None
    add = proto.graph.node[after[0]]
    slots = [s for s, n in enumerate(add.input) if n in known and len(known[n].dims) == 1]
    if not slots or len(readers[add.input[slots[0]]]) != 1:
        return None
    values = numpy_helper.to_array(known[add.input[slots[0]]])
    return _Bias(made.graph.node[after[0]], slots[0], values)


def _joins(original: Any, added: _Bias, weight: NDArray[Any], axis: int | None) -> bool:
    """Can it be int32? It must be the product's own, a number a channel, and taken as it stands."""
    options = {a.name: a.f for a in original.attribute if a.name in ("alpha", "beta")}
    own = added.node.op_type == original.op_type and added.slot == 2
    alike = axis is None or added.values.size == weight.shape[axis]
    return own and alike and all(v == 1.0 for v in options.values())


def _back(found: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], axis: int | None) -> NDArray[Any]:
    quantized, scale, zero = found
    if axis is not None:
        shape = [-1 if i == axis else 1 for i in range(quantized.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    back: NDArray[Any] = (quantized.astype(np.float32) - zero.astype(np.float32)) * scale
    return back


def _constant(
    made: Any, node: Any, slot: int, found: Sequence[Any], axis: int | None, site: str
) -> Any:
    """The quantized constant as initializers; the node that gives it back as float32."""
    name = f"{site}__{node.input[slot]}"
    parts = zip((f"{name}__int", f"{name}__scale", f"{name}__zero"), found, strict=False)
    kept = dict(parts)
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), n) for n, v in kept.items()
    )
    options = {} if axis is None else {"axis": axis}
    node.input[slot] = f"{name}__float"
    return helper.make_node(
        "DequantizeLinear", list(kept), [f"{name}__float"], f"{name}__DQ", **options
    )


def _whole(made: Any, bias: _Bias, activation: float, scale: NDArray[Any], site: str) -> Any:
    values = numbers.of_bias(bias.values, activation, scale)
    both = (scale * np.float32(activation)).astype(np.float32)
    return _constant(made, bias.node, bias.slot, (values, both), 0 if both.ndim else None, site)


def _replace(made: Any, bias: _Bias, name: str) -> None:
    made.graph.initializer.append(numpy_helper.from_array(bias.values.astype(np.float32), name))
    bias.node.input[bias.slot] = name
