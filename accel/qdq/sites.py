"""Nodes that an engine can run in int8, and what they read: activations, weights, a bias.

A site is reverted or kept as a whole: its activations and its weights are quantized together, since a
product runs in int8 only where both of its factors are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accel import kinds
from accel.qdq import order

FLOAT = 1  # onnx.TensorProto.FLOAT
UNTYPED = "behind an operator whose types are not known"
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
JOINS = ("Add", "Concat", "Mul")  # of several activations: in int8 only where its neighbours are
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")


@dataclass(frozen=True)
class Weight:
    """A constant factor of a product."""

    slot: int  # which of the node's inputs
    name: str  # of the initializer
    axis: int | None  # of the output channels; None: one scale for all of it


@dataclass(frozen=True)
class Site:
    """One node."""

    index: int  # in graph.node
    name: str  # the node's own where no other has it, else that of its first output
    operator: str
    activations: tuple[int, ...]  # input slots
    weight: Weight | None = None
    bias: int | None = None  # input slot


def sites(proto: Any) -> tuple[Site, ...]:
    """Every node of the main graph that could run in int8, in order."""
    sizes = {t.name: t for t in proto.graph.initializer if t.data_type == FLOAT}
    given = live(proto)
    types = {n: t for n, t in kinds.types(proto).items() if n in given}
    floats = {n: _rank(t) for n, t in types.items() if t.elem_type == FLOAT}
    named = Counter(n.name for n in proto.graph.node)
    found = []
    for i, node in enumerate(proto.graph.node):
        if node.domain not in ("", "ai.onnx"):
            continue
        name = node.name if node.name and named[node.name] == 1 else node.output[0]
        one = _site(i, name, node, sizes, floats)
        if one is not None:
            found.append(one)
    return tuple(found)


def untyped(proto: Any) -> int:
    """How many products of the main graph are no site since nobody knows the type of what they read."""
    nodes = [n for n in proto.graph.node if n.op_type in PRODUCTS and not n.domain]
    unknown = live(proto) - {*kinds.kinds(proto)}
    return sum(bool(unknown.intersection(n.input[:2])) for n in nodes)


def live(proto: Any) -> set[str]:
    """Values of the main graph that depend on what a caller gives; the others are constants."""
    fixed = {t.name for t in proto.graph.initializer}
    found = {v.name for v in proto.graph.input if v.name not in fixed}
    for node in proto.graph.node:
        if found.intersection(order.reads(node)):
            found.update(node.output)
    return found


def _rank(tensor: Any) -> int | None:
    """None where it is not known."""
    return len(tensor.shape.dim) if tensor.HasField("shape") else None


def _site(
    i: int, name: str, node: Any, sizes: Mapping[str, Any], floats: Mapping[str, int | None]
) -> Site | None:
    kind = node.op_type
    if kind not in (*PRODUCTS, *JOINS, *POOLS):
        return None
    if kind in PRODUCTS:
        return _product(i, name, node, sizes, floats)
    active = tuple(s for s, n in enumerate(node.input) if n in floats)
    if len(active) != len(node.input) or (kind in JOINS and len(active) < 2):
        return None  # a constant beside an activation is no join: it follows what it is added to
    return Site(i, name, kind, active)


def _product(
    i: int, name: str, node: Any, sizes: Mapping[str, Any], floats: Mapping[str, int | None]
) -> Site | None:
    factors = node.input[:2]
    active = tuple(s for s, n in enumerate(factors) if n in floats)
    constant = [s for s, n in enumerate(factors) if n in sizes]
    if len(active) + len(constant) != 2 or not active:
        return None  # a factor of another type, or computed of constants alone
    if not constant:
        return Site(i, name, node.op_type, active) if node.op_type == "MatMul" else None
    slot = constant[0]
    tensor = sizes[factors[slot]]
    if len(tensor.dims) < 2:
        return None
    weight = Weight(
        slot, tensor.name, _axis(node, slot, len(tensor.dims), floats[factors[active[0]]])
    )
    bias = 2 if len(node.input) > 2 and node.input[2] in sizes else None
    return Site(i, name, node.op_type, active, weight, bias)


def _axis(node: Any, slot: int, rank: int, other: int | None) -> int | None:
    """The axis of a weight that its product keeps: a scale for each of these can be taken out.

    `rank` is the weight's, `other` the activation's."""
    if slot != 1:
        return None  # a scale for each row of the left factor suits none
    options = {a.name: a.i for a in node.attribute}
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if options.get("group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if options.get("transB") else 1
    # with one a column ONNX Runtime 1.32 refuses a stack of matrices, and OpenVINO 2026.4 gives other numbers; of a
    # vector by a matrix OpenVINO makes a matrix
    return 1 if rank == 2 and other != 1 else None
