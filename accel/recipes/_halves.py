"""Write a float32 graph anew with some of its nodes in float16 or bfloat16, casts at the borders.

A value v has up to two forms: v, float32, and v__half. A node of 16 bits reads and makes the second;
whoever needs the form that is not made gets a Cast of it, one a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import onnx
from onnx import helper, numpy_helper

from accel import kinds
from accel.qdq import order

FLOAT, HALF, BRAIN = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
)
SPELT = {HALF: "tensor(float16)", BRAIN: "tensor(bfloat16)"}  # as ONNX's schemas spell them
MOST_BRAIN = numpy.float32(2.0**128 - 2.0**120)  # bfloat16's largest: 8 bits, all of them ones
STANDARD = ("", "ai.onnx")
TAILS = ("__half", "__cast", "__half__cast")  # of new names
BY_ATTRIBUTE = (
    "Range", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "EyeLike",
    "SequenceEmpty", "CastLike", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix",
)  # fmt: skip


@dataclass(frozen=True)
class Floats:
    """Which values of the main graph are float32, which are constant, and the nodes around them."""

    proto: Any
    nodes: tuple[tuple[int, Any], ...]  # (index in the graph, node), of those with a float32 value
    values: tuple[str, ...]  # float32, made by a node or given by the caller
    constants: Mapping[str, Any]  # name -> TensorProto, float32: initializers, Constant nodes


def read(proto: Any) -> Floats:
    """What stands in subgraphs and functions stays as it is."""
    known = kinds.kinds(proto)
    given = [v.name for v in proto.graph.input]
    constants = {
        t.name: t for t in proto.graph.initializer if t.data_type == FLOAT and t.name not in given
    }
    for node in proto.graph.node:
        value = node.attribute[0] if node.op_type == "Constant" else None
        if value is not None and value.name == "value" and value.t.data_type == FLOAT:
            constants[node.output[0]] = value.t
    made = given + [o for n in proto.graph.node for o in n.output]
    values = tuple(n for n in made if known.get(n) == FLOAT and n not in constants)
    floats = {*values, *constants}
    nodes = tuple(
        (i, n)
        for i, n in enumerate(proto.graph.node)
        if n.op_type != "Constant" and floats & {*n.input, *n.output}
    )
    return Floats(proto, nodes, values, constants)


def ports(node: Any, floats: frozenset[str], opset: int, to: int = HALF) -> frozenset[str] | None:
    """The float32 values of a node that would be of 16 bits; None where it cannot be.

    A port whose schema says float32 alone, such as the scales of Resize, stays."""
    if kinds.fused(node):
        return (floats & {*node.input, *kinds.of_its_type(node)}) or None
    if node.domain not in STANDARD or node.op_type in BY_ATTRIBUTE or any(_bodies(node)):
        return None
    if node.op_type == "Cast" and not floats & set(node.output):
        return None  # to an integer: 16 bits hold none above 2048 exactly
    if node.op_type == "ConstantOfShape" and not node.attribute:
        return None  # its type is what the standard says where no value does
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    found = set()
    seen: dict[str, set[bool]] = {}  # of a type's values: is it float32, as far as is known
    for names, formal in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for i, name in enumerate(names):
            if name:
                seen.setdefault(formal[min(i, len(formal) - 1)].type_str, set()).add(name in floats)
            kind = formal[min(i, len(formal) - 1)].type_str if name in floats else ""
            if kind in allowed and SPELT[to] not in allowed[kind]:
                return None
            if kind in allowed and not (node.op_type == "LayerNormalization" and kind == "U"):
                found.add(name)  # U is the type of its mean, by stash_type
    if any(kind in allowed and len(both) > 1 for kind, both in seen.items()):
        return None  # values of one type, and of some nobody knows that they are float32
    return frozenset(found) if found else None


def _bodies(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs)


def bounded(proto: Any) -> Any:
    """The graph with finite constants that bfloat16 would round to an infinity at its largest number.

    Masks hold float32's least: as -inf, a row that is masked as a whole would come out as NaN."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    values = (a.t for n in made.graph.node for a in n.attribute if a.name == "value")
    for tensor in (*made.graph.initializer, *values):
        array = numpy_helper.to_array(tensor) if tensor.data_type == FLOAT else numpy.zeros(0)
        beyond = numpy.isfinite(array) & (numpy.abs(array) > MOST_BRAIN)
        if beyond.any():
            nearest = numpy.where(beyond, numpy.copysign(MOST_BRAIN, array), array)
            tensor.CopyFrom(numpy_helper.from_array(nearest, tensor.name))
    return made


def write(found: Floats, halves: Mapping[int, frozenset[str]], to: int = HALF) -> Any:
    """The graph with these nodes (by index) in HALF or BRAIN, each with the values that it has so."""
    new = _new(found)
    made = onnx.ModelProto()
    made.CopyFrom(found.proto)
    for name in ("node", "initializer", "value_info"):
        made.graph.ClearField(name)
    nodes = list(enumerate(found.proto.graph.node))
    made_half = {o for i, n in nodes for o in n.output if o in halves.get(i, ())}
    read_half = {x for i, n in nodes for x in n.input if x in halves.get(i, ())}
    read_float = {x for i, n in nodes for x in n.input if x not in halves.get(i, ())}
    read_float |= {x for _, n in nodes for body in _bodies(n) for x in _captured(body)}
    read_float |= {v.name for v in found.proto.graph.output}
    replaced = {c for c in found.constants if c in read_half and c not in read_float}
    made.graph.initializer.extend(
        t for t in found.proto.graph.initializer if t.name not in replaced
    )
    made.graph.initializer.extend(
        _halved(t, new.half(name), to) for name, t in found.constants.items() if name in read_half
    )
    for value in found.proto.graph.input:
        made.graph.node.extend(_other(new, value.name, False, read_half, read_float, to))
    for i, node in nodes:
        if replaced & set(node.output):
            continue
        made.graph.node.append(_node(new, node, halves.get(i, frozenset()), to))
        for name in () if node.output[0] in found.constants else node.output:
            made.graph.node.extend(_other(new, name, name in made_half, read_half, read_float, to))
    return made


@dataclass(frozen=True)
class _Names:
    """Of what is new."""

    mark: str  # order.mark

    def half(self, name: str) -> str:
        """A value's second form."""
        return f"{name}{self.mark}__half"

    def up(self, name: str) -> Any:
        """The node that makes the first form of the second."""
        title = f"{name}{self.mark}__cast"
        return helper.make_node("Cast", [self.half(name)], [name], title, to=FLOAT)

    def down(self, name: str, to: int) -> Any:
        """The node that makes the second form of the first."""
        title = f"{self.half(name)}__cast"
        return helper.make_node("Cast", [name], [self.half(name)], title, to=to)


def _new(found: Floats) -> _Names:
    names = (*found.values, *found.constants)
    return _Names(order.mark(found.proto, ((n, tail) for n in names for tail in TAILS)))


def _other(
    new: _Names, name: str, is_half: bool, read_half: set[str], read_float: set[str], to: int
) -> Iterator[Any]:
    """The Cast to the form of a value that is read and not made."""
    if is_half and name in read_float:
        yield new.up(name)
    elif not is_half and name in read_half:
        yield new.down(name, to)


def _halved(tensor: Any, name: str, to: int) -> Any:
    array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(to))
    return numpy_helper.from_array(array, name)


def _node(new: _Names, node: Any, halves: frozenset[str], to: int) -> Any:
    """The node, its values of these names in their second form."""
    if not halves:
        return node
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.input[:] = [new.half(n) if n in halves else n for n in node.input]
    made.output[:] = [new.half(n) if n in halves else n for n in node.output]
    for attribute in made.attribute:
        if attribute.name == "to" and attribute.i == FLOAT and node.output[0] in halves:
            attribute.i = to
        if attribute.name == "value" and attribute.t.data_type == FLOAT:
            attribute.t.CopyFrom(_halved(attribute.t, attribute.t.name, to))
    return made


def _captured(part: Any) -> Iterator[str]:
    """Names that a subgraph reads, its own among them."""
    for node in part.node:
        yield from node.input
        for inner in _bodies(node):
            yield from _captured(inner)
    yield from (v.name for v in part.output)


def opset(proto: Any) -> int:
    """Of the standard operators."""
    return max((int(o.version) for o in proto.opset_import if o.domain in STANDARD), default=1)
