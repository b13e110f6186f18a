"""Write a float32 graph anew with some of its nodes in float16 or bfloat16, casts at the borders.

A value v has up to two forms: v, float32, and v__half. A node of 16 bits reads and makes the second;
whoever needs the form that is not made gets a Cast of it, one a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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
GATHERED = ("seq(", "optional(")  # as they spell what holds tensors
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
    """What stands in subgraphs and functions stays as it is. Weights are no inputs in `proto` any more."""
    proto = order.closed(proto)
    known = kinds.kinds(proto)
    given = [v.name for v in proto.graph.input]
    constants = {t.name: t for t in proto.graph.initializer if t.data_type == FLOAT}
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

    A port whose schema says float32 alone, such as the scales of Resize, stays. What is put into a sequence
    or an optional, or taken out of one, stays too: what else is in there is not followed."""
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
    for name, kind in _typed_by(node, schema):
        seen.setdefault(kind, set()).add(name in floats)
        if kind not in allowed:
            continue
        if name not in floats and any(a.startswith(GATHERED) for a in allowed[kind]):
            return None
        if name in floats and SPELT[to] not in allowed[kind]:
            return None
        if name in floats and not (node.op_type == "LayerNormalization" and kind == "U"):
            found.add(name)  # U is the type of its mean, by stash_type
    if any(kind in allowed and len(both) > 1 for kind, both in seen.items()):
        return None  # values of one type, and of some nobody knows that they are float32
    return frozenset(found) if found else None


def _typed_by(node: Any, schema: Any) -> Iterator[tuple[str, str]]:
    """Each value that a node reads or makes, and the name that the schema has for its type."""
    for names, formal in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for i, name in enumerate(names):
            if name:
                yield name, formal[min(i, len(formal) - 1)].type_str


def _bodies(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs)


def write(found: Floats, halves: Mapping[int, frozenset[str]], to: int = HALF) -> Any:
    """The graph with these nodes (by index) in HALF or BRAIN, each with the values that it has so."""
    new = _new(found)
    made = onnx.ModelProto()
    made.CopyFrom(found.proto)
    for name in ("node", "initializer", "value_info"):
        made.graph.ClearField(name)
    made.ir_version = max(made.ir_version, order.INITIALIZERS_ALONE)  # those of 16 bits are
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
