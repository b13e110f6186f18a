"""Strong typing: operands that must be of one type, by ONNX's own schema, and are not.

TensorRT 11 has strongly typed networks only; accel builds nothing else with 10. Add(FLOAT16, FLOAT) is
refused, never promoted. The automatic fix casts to the widest of the types, which loses no value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx

from accel.legality import _graph, _tensorrt
from accel.qdq import order
from accel.values import Finding, Request, Target

ENGINES = ()  # ONNX itself demands it
THREAD = (
    "NVIDIA/TensorRT#4268: 'concat input tensors 0 and 3 have incompatible types Int64 and Int32'"
)
POW = "onnx/onnx-tensorrt docs/Changelog.md, 10.8 (2025-01-30): Pow with integer-typed exponents"
POW_SINCE = (10, 8)
NORM = "onnx/onnx-tensorrt docs/Changelog.md, 10.7 (2024-11-26): mixed-precision BatchNormalization"
NORM_SINCE = (10, 7)
FLOATS = ("FLOAT16", "BFLOAT16", "FLOAT", "DOUBLE")
INTEGERS = ("BOOL", "UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "UINT64", "INT64")


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Every standard node whose operands' types are known."""
    for node in graph.standard():
        for names in _groups(node, graph.opset):
            seen = {graph.dtype(n) for n in names} - {""}
            if len(seen) > 1:
                said = f"{node.operator} of {' and '.join(sorted(seen))}; its operands must be of one type"
                source = f"{THREAD}; {_tensorrt.GUIDE_11}"
                yield Finding(
                    "typed", "error", said, node.place, node.operator, source, _tensorrt.FIX
                )
        if _norm(graph, node, target):
            kinds = sorted({graph.dtype(n) for n in node.inputs})
            said = f"BatchNormalization of {' and '.join(kinds)}; before TensorRT 10.7 all must be of one type"
            yield Finding("typed", "error", said, node.place, node.operator, NORM)
        if _exponent(graph, node, target):
            kinds = [graph.dtype(n) for n in node.inputs]
            said = f"Pow of {kinds[0]} by {kinds[1]}; before TensorRT 10.8 both must be of one type"
            yield Finding("typed", "error", said, node.place, "Pow", POW, _tensorrt.FIX)


def _groups(node: _graph.Node, opset: int) -> list[tuple[str, ...]]:
    """Inputs that the schema binds to one type, two or more each."""
    try:
        schema = onnx.defs.get_schema(node.operator, opset, "")
    except onnx.defs.SchemaError:
        return []
    formal = list(schema.inputs)
    found: dict[str, list[str]] = {}
    for i, name in enumerate(node.inputs):
        port = formal[min(i, len(formal) - 1)] if formal else None
        if (
            name
            and port is not None
            and port.is_homogeneous
            and not port.type_str.startswith("tensor(")
        ):
            found.setdefault(port.type_str, []).append(name)
    return [tuple(names) for names in found.values() if len(names) > 1]


def _norm(graph: _graph.Graph, node: _graph.Node, target: Target) -> bool:
    """A BatchNormalization of mixed types, which ONNX allows, for a TensorRT that does not."""
    if node.operator != "BatchNormalization" or not set(_tensorrt.ENGINES) & set(target.engines):
        return False
    old = any(v < NORM_SINCE for v in _tensorrt.versions(target))
    return old and len({graph.dtype(n) for n in node.inputs} - {""}) > 1


def _exponent(graph: _graph.Graph, node: _graph.Node, target: Target) -> bool:
    """A Pow whose exponent is an integer, for a TensorRT that takes none."""
    if node.operator != "Pow" or not set(_tensorrt.ENGINES) & set(target.engines):
        return False
    base, exponent = (graph.dtype(n) for n in node.inputs[:2])
    old = any(v < POW_SINCE for v in _tensorrt.versions(target))
    return bool(old and base in FLOATS and exponent in INTEGERS)


def widest(kinds: Sequence[str]) -> str:
    """The type that holds every value of these, as nearly as one does; floats before integers."""
    floats = [k for k in kinds if k in FLOATS]
    if {"FLOAT16", "BFLOAT16"} <= set(floats):
        floats.append("FLOAT")
    ranks = FLOATS if floats else INTEGERS
    return max(floats or kinds, key=ranks.index)


def fix(graph: _graph.Graph, target: Target) -> tuple[Any, list[str]]:
    """Casts before the operands that are narrower than the widest; of the main graph only."""
    wanted: dict[int, dict[str, str]] = {}  # index of a node -> input -> the type that it must be
    own = [n for n in graph.nodes if not n.part]
    if len(own) != len(graph.proto.graph.node):
        return graph.proto, []  # functions were inlined: the nodes seen are not the file's
    for i, node in enumerate(own):
        if node.domain not in _graph.STANDARD:
            continue
        for names in _groups(node, graph.opset):
            kinds = {n: graph.dtype(n) for n in names if graph.dtype(n) in (*FLOATS, *INTEGERS)}
            if len(set(kinds.values())) > 1:
                to = widest(list(kinds.values()))
                wanted.setdefault(i, {}).update({n: to for n, k in kinds.items() if k != to})
        if _exponent(graph, node, target):
            wanted.setdefault(i, {})[node.inputs[1]] = graph.dtype(node.inputs[0])
    return _cast(graph.proto, wanted) if wanted else (graph.proto, [])


def _cast(proto: Any, wanted: Mapping[int, Mapping[str, str]]) -> tuple[Any, list[str]]:
    """The graph with one Cast for each value and type, and a line for each that is read anew."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    nodes = list(made.graph.node)
    lines: dict[tuple[str, str], str] = {}
    there: dict[tuple[str, str], str] = {}  # what Casts make that stand before, the graph's own too
    heads = {f"{n}__{k.lower()}" for kinds in wanted.values() for n, k in kinds.items()}
    mark = order.mark(proto, [(head, tail) for head in heads for tail in ("", "__cast")])
    made.graph.ClearField("node")
    made.graph.ClearField("value_info")  # what was noted of the nodes' outputs may no longer hold
    for i, node in enumerate(nodes):
        for name, kind in wanted.get(i, {}).items():
            if (name, kind) not in there:
                new = there[name, kind] = f"{name}__{kind.lower()}{mark}"
                to = onnx.TensorProto.DataType.Value(kind)
                made.graph.node.append(
                    onnx.helper.make_node("Cast", [name], [new], f"{new}__cast", to=to)
                )
            said = f"Cast of {name} to {kind} for {node.name or node.op_type}"
            lines.setdefault((name, kind), said)
            node.input[:] = [there[name, kind] if n == name else n for n in node.input]
        made.graph.node.append(node)
        if node.op_type == "Cast" and node.domain in _graph.STANDARD:
            to = next((a.i for a in node.attribute if a.name == "to"), 0)
            kind = onnx.TensorProto.DataType.Name(to)
            there.setdefault((node.input[0], kind), node.output[0])
    return made, list(lines.values())
