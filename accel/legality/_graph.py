"""What every rule looks at: the graph as it is, and as TensorRT's parser sees it, functions inlined."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import onnx
from onnx import numpy_helper

from accel import flatten, shapes, tensors
from accel import graph as graphs
from accel.errors import BadModel

STANDARD = ("", "ai.onnx")
LOADED_BYTES = graphs.INLINE_LIMIT_BYTES  # of weights beside the file; above it, none is read
PROTOBUF_BYTES = graphs.PROTOBUF_BYTES
NUMBERS = {  # how a Constant may give its value, but for a tensor
    "value_int": numpy.int64,
    "value_ints": numpy.int64,
    "value_float": numpy.float32,
    "value_floats": numpy.float32,
}
SMALL = 65_536  # elements of a constant whose values rules may ask for
Told = tuple[str, shapes.Sizes | None, Any]  # of a value: its type or "", its sizes, its tensor


@dataclass(frozen=True)
class Node:
    """One node, its attributes as Python values, and the part of the model that it stands in."""

    operator: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    part: str  # "" for the main graph, else "If_3.then_branch"

    @property
    def place(self) -> str:
        """Its name, or the operator and its first output."""
        own = self.name or f"{self.operator} of {self.outputs[0] if self.outputs else '?'}"
        return f"{self.part}/{own}" if self.part else own


@dataclass(frozen=True)
class Graph:
    """A model, opened without trust; dtypes are ONNX's names, "FLOAT16"."""

    path: Path
    proto: Any  # as it is in the file; weights that lie beside it are read where they are small
    trouble: str  # why its external data cannot be read; empty: it can, or there is none
    nodes: tuple[Node, ...]  # of the main graph and of all subgraphs, functions inlined
    inputs: Mapping[str, Any]  # name -> ValueInfoProto, initializers left out
    outputs: tuple[str, ...]
    dtypes: Mapping[str, str]  # of every value whose type could be found
    sizes: Mapping[str, shapes.Sizes]
    constants: Mapping[str, Any]  # name -> TensorProto: initializers, and values of Constant nodes
    weights: frozenset[str]  # names of constants that are initializers

    @functools.cached_property
    def opset(self) -> int:
        """Of the standard operators."""
        return max((o.version for o in self.proto.opset_import if o.domain in STANDARD), default=1)

    @functools.cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """Value -> the nodes that read it, in whatever part they stand."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @functools.cached_property
    def producers(self) -> Mapping[str, Node]:
        """Value -> the node that makes it."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def standard(self) -> Iterator[Node]:
        """Nodes of ONNX's own operators."""
        return (n for n in self.nodes if n.domain in STANDARD)

    def dtype(self, name: str) -> str:
        """Empty where it is not known."""
        return self.dtypes.get(name, "")

    def value(self, name: str) -> Any:
        """The array of a constant of at most 65,536 elements, or None where it is not one."""
        tensor = self.constants.get(name)
        if tensor is None or count(tensor) > SMALL or not held(tensor):
            return None
        return numpy_helper.to_array(tensor)


def held(tensor: Any) -> bool:
    """Are the values of a tensor here, not in a file that was not read?"""
    return bool(tensor.data_location != onnx.TensorProto.EXTERNAL)


def count(tensor: Any) -> int:
    """Elements."""
    total = 1
    for size in tensor.dims:
        total *= size
    return total


def view(path: Path) -> Graph:
    """Raises BadModel for a file that is missing, foreign or not whole. Data that lies outside its
    folder, or is not there, is a trouble that rules may tell, not an error."""
    proto, trouble = _opened(path)
    flat = flatten.inlined(shapes.lightened(proto), None)
    with contextlib.suppress(BadModel):
        flat = shapes.infer(flat)
    values = {v.name: v for v in _values(flat.graph)}
    nodes = tuple(_nodes(flat.graph, ""))
    inner = (v for n in nodes for v in n.attributes.values() if isinstance(v, onnx.GraphProto))
    parts = (flat.graph, *inner)
    constants: dict[str, Any] = {t.name: t for t in proto.graph.initializer}
    weights = frozenset(constants)
    for name, tensor in itertools.chain.from_iterable(_constants(p).items() for p in parts):
        constants.setdefault(name, tensor)
    dtypes = {n: _kind(v) for n, v in values.items() if _kind(v)}
    dtypes |= {n: onnx.TensorProto.DataType.Name(t.data_type) for n, t in constants.items()}
    sizes = {n: s for n, v in values.items() if (s := shape(v)) is not None}
    sizes |= {n: tuple(t.dims) for n, t in constants.items()}
    for name, kind, size, tensor in _shared(parts):
        _note(dtypes, name, kind or None)
        _note(sizes, name, size)
        _note(constants, name, tensor)
    return Graph(
        path=path,
        proto=proto,
        trouble=trouble,
        nodes=nodes,
        inputs={v.name: v for v in proto.graph.input if v.name not in weights},
        outputs=tuple(v.name for v in proto.graph.output),
        dtypes=dtypes,
        sizes=sizes,
        constants=constants,
        weights=weights,
    )


def shape(value: Any) -> shapes.Sizes | None:
    """Of a ValueInfoProto: sizes, symbols and None; None alone for an unknown rank."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return shapes.dims(kind.shape)


def _opened(path: Path) -> tuple[Any, str]:
    """The model, and why its external data was not read."""
    proto = graphs.skeleton(path)
    try:
        beside, trouble = graphs.external_data(path, proto), ""
    except BadModel as error:
        beside, trouble = (), str(error)
    if path.suffix != ".onnx":
        graphs.open_model(path)  # a stranger is told for what it is
    if not proto.graph.node:
        raise BadModel(f"{path} holds no operators.")
    total = sum((path.parent / name).stat().st_size for name in beside)
    if beside and total <= LOADED_BYTES:
        tensors.fetch(proto, path)
    return proto, trouble


def _values(part: Any) -> Iterator[Any]:
    yield from (*part.value_info, *part.input, *part.output)
    for node in part.node:
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _values(inner)


def _tensor(node: Node) -> Any:
    """What a Constant gives; None for strings and sparse tensors."""
    value = node.attributes.get("value")
    if isinstance(value, onnx.TensorProto):
        return value
    form = next((f for f in NUMBERS if f in node.attributes), None)
    if form is None:
        return None
    values = numpy.asarray(node.attributes[form], NUMBERS[form])
    return numpy_helper.from_array(values, node.outputs[0])


def _constants(part: Any) -> dict[str, Any]:
    """Name -> tensor: a part's own initializers, and what its Constant nodes give."""
    found = {t.name: t for t in part.initializer}
    for node in part.node:
        own = node.op_type == "Constant" and node.domain in STANDARD
        if own and (tensor := _tensor(_node(node, ""))) is not None:
            found[node.output[0]] = tensor
    return found


def _shared(parts: Sequence[Any]) -> Iterator[tuple[str, str, shapes.Sizes | None, Any]]:
    """Each name that several parts give to a value of theirs, and of its type, sizes and tensor what is the
    same in all. Branches do not see each other: `c` may be an integer in one and a float in the next."""
    own = [_own(part) for part in parts]
    times = collections.Counter(itertools.chain.from_iterable(own))
    told: dict[str, list[Told]] = {n: [] for n in sorted(times) if times[n] > 1}
    for part, names in zip(parts, own, strict=True):
        if here := told.keys() & names:
            infos = {v.name: v for v in (*part.value_info, *part.input, *part.output)}
            held = _constants(part)
            for name in here:
                told[name].append(_told(infos.get(name), held.get(name)))
    for name, every in told.items():
        kinds, sizes = {t[0] for t in every}, {t[1] for t in every}
        kind, size = kinds.pop(), sizes.pop()
        tensor = _agreed([t[2] for t in every])
        yield name, "" if kinds else kind, None if sizes else size, tensor


def _own(part: Any) -> set[str]:
    """Names of what a part makes, holds and is given."""
    made = {name for node in part.node for name in node.output if name}
    return made | {v.name for v in (*part.initializer, *part.input)}


def _told(info: Any, tensor: Any) -> Told:
    if tensor is not None:
        return onnx.TensorProto.DataType.Name(tensor.data_type), tuple(tensor.dims), tensor
    return ("", None, None) if info is None else (_kind(info), shape(info), None)


def _agreed(given: Sequence[Any]) -> Any:
    """One tensor for all. Where they differ it is still a constant, whose values cannot be told: as those in a
    file that was not read. None where one is no constant."""
    if any(tensor is None for tensor in given):
        return None
    first = given[0]
    if len({_content(tensor) for tensor in given}) == 1:
        return first
    beside = onnx.TensorProto.EXTERNAL
    return onnx.TensorProto(data_type=first.data_type, dims=first.dims, data_location=beside)


def _content(tensor: Any) -> bytes:
    """All but its name, which that in a Constant node may or may not have."""
    bare = onnx.TensorProto()
    bare.CopyFrom(tensor)
    bare.ClearField("name")
    return bytes(bare.SerializeToString())


def _note(known: dict[str, Any], name: str, value: Any) -> None:
    known.pop(name, None)
    if value is not None:
        known[name] = value


def _kind(value: Any) -> str:
    kind = value.type.tensor_type.elem_type
    return str(onnx.TensorProto.DataType.Name(kind)) if kind else ""


def _nodes(part: Any, where: str) -> Iterator[Node]:
    for node in part.node:
        made = _node(node, where)
        yield made
        for name, value in made.attributes.items():
            if isinstance(value, onnx.GraphProto):
                yield from _nodes(value, f"{made.place}.{name}")


def _node(node: Any, where: str) -> Node:
    attributes = {a.name: _attribute(a) for a in node.attribute}
    ports = tuple(node.input), tuple(node.output)
    return Node(node.op_type, node.domain, node.name, *ports, attributes, where)


def _attribute(attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode(errors="replace") if isinstance(value, bytes) else value
