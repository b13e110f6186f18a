"""What nodes read and write at least, and in which type they compute: from how values flow.

A DequantizeLinear is not run by itself: who reads it reads the integers below it. Views move nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from accel.roofline import _constant, _products, _site
from accel.roofline._site import Unknown
from accel.roofline._sizes import Sized

SEEN_THROUGH = (*_constant.VIEWS, "Transpose")  # between a DequantizeLinear and its product
BELOW = (*SEEN_THROUGH, "DequantizeLinear")
NARROW = {"bfloat16": 2, "float16": 2}  # bytes
PARTLY = ("Gather", "GatherElements", "GatherND", "Slice")  # of input 0: what they give
TABLES = {  # ONNX Runtime's embeddings: the inputs of which only the rows that are asked for are read
    "com.microsoft.EmbedLayerNormalization": (2, 3, 4),
    "com.microsoft.QEmbedLayerNormalization": (2, 3, 4),
}
ACCURACY = {
    2: "float16",
    3: "bfloat16",
    4: "int8",
}  # MatMulNBits' accuracy_level (ContribOperators.md)
NAMES = {"float": "float32", "double": "float64", "uint8": "int8", "uint4": "int4"}


@dataclass(frozen=True)
class Flow:
    """A graph, who makes each value, and what a runtime's hint makes of float32."""

    sized: Sized
    float32_as: str = "float32"
    fixed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    makers: Mapping[str, Any] = field(default_factory=dict)
    readers: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def base(self, name: str) -> str:
        """The value whose bytes are read where this one is. A weight is laid out once, before the run:
        below its Transpose, too, lie the integers."""
        node = self.makers.get(name)
        while node is not None and _constant.kind(node) in BELOW:
            if _constant.kind(node) == "Transpose" and name not in self.fixed:
                break
            name = node.input[0]
            node = self.makers.get(name)
        return name

    def size_bytes(self, name: str) -> int:
        """Of a value where it lies. Raises Unknown."""
        tensor = self.sized.of(name)
        if tensor.size_bytes is None:
            raise Unknown(f"the size of {name!r} is not known")
        ports = (*self.sized.inputs, *self.sized.outputs)
        if tensor.dtype == "float" and self.float32_as in NARROW and name not in ports:
            return tensor.size_bytes * NARROW[self.float32_as] // 4
        return tensor.size_bytes


def of(sized: Sized, float32_as: str = "float32") -> Flow:
    """The flow of a graph with bound sizes."""
    readers: dict[str, list[Any]] = {}
    for node in sized.nodes:
        for name in _constant.reads(node):
            readers.setdefault(name, []).append(node)
    return Flow(
        sized=sized,
        float32_as=float32_as,
        fixed=_constant.roots(sized),
        makers={name: node for node in sized.nodes for name in node.output if name},
        readers={name: tuple(nodes) for name, nodes in readers.items()},
    )


def read(flow: Flow, node: Any) -> Mapping[str, int]:
    """Value -> the bytes of it that a node must see. Raises Unknown."""
    if _constant.kind(node) in (*_constant.VIEWS, "DequantizeLinear", "Shape", "Size", "Constant"):
        return {}
    found: dict[str, int] = {}
    for name in dict.fromkeys(n for n in node.input if n):  # what a branch takes, it may not
        base = flow.base(name)
        whole = flow.size_bytes(base)
        need = min(whole, found.get(base, 0) + _needed(flow, node, name, base, whole))
        found[base] = need
    return found


def _needed(flow: Flow, node: Any, name: str, base: str, whole: int) -> int:
    operator = _site.operator(node)
    partly = operator in PARTLY and name == node.input[0]
    partly = partly or any(node.input[i : i + 1] == [name] for i in TABLES.get(operator, ()))
    if not partly or not node.output:
        return whole
    rows, all_of_it = flow.sized.of(node.output[0]).elements, flow.sized.of(base).elements
    if rows is None:
        raise Unknown(f"the size of {node.output[0]!r} is not known")
    return -(-whole * min(rows, all_of_it or 0) // (all_of_it or 1))


def written(flow: Flow, node: Any) -> int:
    """Bytes of what a node gives. Raises Unknown."""
    if _constant.kind(node) in (*_constant.VIEWS, "DequantizeLinear", "Constant"):
        return 0
    return sum(flow.size_bytes(name) for name in node.output if name)


def computes_in(flow: Flow, node: Any) -> str:
    """numpy's name of the type that a node's operations are of; "int8" for uint8 too."""
    operator = _site.operator(node)
    if operator in _products.INTEGER:
        return "int8"
    if operator in _products.PRODUCTS:
        stored = {_stored(flow, name) for name in node.input[:2]}
        if len(stored) == 1 and (only := stored.pop()):
            return only
    accuracy = next((a.i for a in node.attribute if a.name == "accuracy_level"), 0)
    if accuracy in ACCURACY:
        return ACCURACY[accuracy]
    kinds = [flow.sized.of(n).dtype for n in (*node.output[:1], *node.input) if n]
    chosen = next((k for k in kinds if _is_float(k)), kinds[0] if kinds else "")
    return flow.float32_as if chosen == "float" else _name(chosen)


def _stored(flow: Flow, name: str) -> str:
    """The type below a value's DequantizeLinear; empty where there is none."""
    node = flow.makers.get(name)
    while node is not None and _constant.kind(node) in SEEN_THROUGH:
        node = flow.makers.get(node.input[0])
    if node is None or _constant.kind(node) != "DequantizeLinear":
        return ""
    return _name(flow.sized.of(node.input[0]).dtype)


def dissolves(flow: Flow, node: Any) -> bool:
    """Is a DequantizeLinear read by nothing but products of the type below it?"""
    left, seen = list(node.output), set(node.output)
    while left:  # without recursion: graphs are deep
        name = left.pop()
        for reader in flow.readers.get(name, ()):
            if _constant.kind(reader) in SEEN_THROUGH:
                left += [n for n in reader.output if n not in seen]
                seen.update(reader.output)
            elif _stored(flow, name) != computes_in(flow, reader):
                return False
    return True


def _is_float(dtype: str) -> bool:
    return "float" in dtype or dtype == "double"


def _name(dtype: str) -> str:
    short = next((s for s in ("float8", "float4") if dtype.startswith(s)), dtype)
    return NAMES.get(short, short)


def least(flow: Flow) -> Iterator[tuple[str, int]]:
    """(value, bytes) of what any engine reads from or writes to memory: weights and inputs once, as
    far as they are needed, and outputs. What lies between may stay in a cache. A value whose size is
    not known is left out."""
    charged: dict[str, int] = {}
    for node in flow.sized.nodes:
        if _constant.is_fixed(node, flow.fixed):
            continue
        try:
            needs = read(flow, node)
        except Unknown:
            continue
        for name, need in needs.items():
            source = _source(flow, name)
            if source:
                charged[source] = min(flow.size_bytes(source), charged.get(source, 0) + need)
    yield from charged.items()
    for name in flow.sized.outputs:
        if name not in flow.fixed and flow.sized.of(name).size_bytes is not None:
            yield name, flow.size_bytes(name)


def _source(flow: Flow, name: str) -> str:
    """What lies in memory before the run for this value; empty for one that is made in the run."""
    if name in flow.sized.inputs:
        return name
    weights = flow.fixed.get(name, frozenset())
    return next(iter(weights)) if len(weights) == 1 else name if weights else ""
