"""Could any runtime run this graph? onnx's checker and ONNX Runtime disagree, both ways.

The checker refuses what runtimes run: a graph without a name, ports without a shape or a type,
com.microsoft without an import, the domain "ai.onnx" written out, initializers that are no inputs
before IR 4, a metadata key that stands twice. It is asked about a copy in which these are mended;
what is another spelling of the same is `spelled` in one way where a file is read.
It passes what none can run, or each runs in its own way: two opsets of one domain, one that is yet to
come, weights that hold less than they say.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from accel import sparse, tensors

IMPLIED = ("com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental")  # by ONNX Runtime
FLOAT = 1  # of onnx.TensorProto's DataType
MOST_NODES, MOST_FUNCTIONS = 500_000, 10_000  # the second is onnx's own
OWN_IR = 4  # initializers need not be inputs since then


def trouble(proto: Any) -> str:
    """The first thing that is wrong with a model, in one line; empty for a sound one.

    What lies beside the file is not looked at."""
    return (
        _opsets(proto)
        or next((said for t in tensors.every(proto) if (said := tensors.trouble(t))), "")
        or next((said for s in sparse.within(proto.graph) if (said := sparse.trouble(s))), "")
        or _twice(proto)
        or _recursive(proto)
        or _order(proto.graph)
        or _refused(proto)
    )


def beyond(proto: Any) -> str:
    """What is more than any model has: a node is two bytes of a file, and a hundred of memory."""
    counts = ("nodes", len(proto.graph.node), MOST_NODES), ("functions", len(proto.functions), MOST_FUNCTIONS)  # fmt: skip
    over = (f"{count:,} {what} are in it; {most:,} are read at most" for what, count, most in counts if count > most)  # fmt: skip
    return next(over, "") or _beyond_within(proto)


def _beyond_within(proto: Any) -> str:
    """The same of nodes wherever they stand: in subgraphs and functions too."""
    every = (node for part in (proto.graph, *proto.functions) for node in _nodes(part))
    if next(itertools.islice(every, MOST_NODES, None), None) is None:
        return ""
    return f"over {MOST_NODES:,} nodes are in its graphs and functions; so many are read at most"


def spelled(proto: Any) -> None:
    """Write the standard domain as "", and import what ONNX Runtime takes for imported."""
    import onnx

    nodes = (node for part in (proto.graph, *proto.functions) for node in _nodes(part))
    imports = (entry for part in (proto, *proto.functions) for entry in part.opset_import)
    for one in itertools.chain(nodes, imports):
        if one.domain == "ai.onnx":
            one.domain = ""
    used = {node.domain for node in _nodes(proto.graph)}
    lacking = used.intersection(IMPLIED) - {entry.domain for entry in proto.opset_import}
    proto.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in sorted(lacking))


def unreadable(message: Any) -> str:
    """What in a message cannot be a text or a type, at whatever depth: neither protobuf nor onnx tells
    before it is used. Texts that are not UTF-8 come out of protobuf as bytes."""
    import onnx

    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            texts = [value] if isinstance(value, (str, bytes)) else value
            if wild := next((text for text in texts if isinstance(text, bytes)), None):
                return f"a name in it is not UTF-8: {wild[:40]!r}"
        elif field.name == "elem_type" and isinstance(value, int):
            if value not in onnx.TensorProto.DataType.values():
                return f"a value is of the data type {value}"
        elif field.type == field.TYPE_MESSAGE:
            parts = value if hasattr(value, "extend") else [value]
            if wrong := next((said for part in parts if (said := unreadable(part))), ""):
                return wrong
    return ""


def _opsets(proto: Any) -> str:
    import onnx

    found: dict[str, int] = {}
    for entry in proto.opset_import:
        domain, version = _domain(entry.domain), entry.version
        if found.setdefault(domain, version) != version:
            both = f"{found[domain]} and {version}"
            return f"it imports two opsets of {domain or 'ai.onnx'}: {both}"
    known = onnx.defs.onnx_opset_version()
    if (own := found.get("", known)) > known:
        newest = f"onnx {onnx.__version__} knows those up to {known}"
        return f"it is of opset {own}, and {newest}. Run: pip install -U onnx"
    return f"it is of opset {own}; 1 is the first" if own < 1 else ""


def _twice(proto: Any) -> str:
    """A function that stands twice: the checker sees it where it is called, inference always."""
    counts = Counter(_called(f.domain, f.name, f.overload) for f in proto.functions)
    found = next((name for name, count in counts.items() if count > 1), None)
    return f"its function {found[0] or 'ai.onnx'}::{found[1]} stands twice" if found else ""


def _recursive(proto: Any) -> str:
    """A function that leads to itself has no end; checkers before onnx 1.23 follow it until they crash."""
    calls = {
        _called(f.domain, f.name, f.overload): {
            _called(n.domain, n.op_type, n.overload) for n in _nodes(f)
        }
        for f in proto.functions
    }
    waits = {name: len(called & calls.keys()) for name, called in calls.items()}
    callers: dict[Any, list[Any]] = {}
    for name, called in calls.items():
        for one in called & calls.keys():
            callers.setdefault(one, []).append(name)
    done = [name for name, count in waits.items() if not count]
    for one in done:  # it grows
        for name in callers.get(one, ()):
            waits[name] -= 1
            if not waits[name]:
                done.append(name)
    left = [name for name, count in waits.items() if count]
    return f"its function {left[0][1]} leads to itself" if left else ""


def _called(domain: str, name: str, overload: str) -> tuple[str, str, str]:
    """How onnx tells functions apart."""
    return _domain(domain), name, overload


def _domain(told: str) -> str:
    """ONNX's own has two names."""
    return "" if told == "ai.onnx" else told


def _nodes(part: Any) -> Iterator[Any]:
    for node in part.node:
        yield node
        for inner in _inner(node):
            yield from _nodes(inner)


def _inner(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from tensors.bodies(attribute)


def _order(graph: Any) -> str:
    """Of the main graph: what nothing makes, a circle, or nodes that are not sorted. The checker has
    one message for the three, and each is mended in another way."""
    makers = {name: node for node in graph.node for name in node.output if name}
    made = {value.name for value in (*graph.input, *graph.initializer)} | {""}
    made |= {held.values.name for held in graph.sparse_initializer}
    for node in graph.node:
        for name in node.input:
            if name in made:
                continue
            what = f"{node.op_type} {node.name}".strip()
            if name not in makers:
                return f"{what} reads {name}, which nothing makes"
            if _leads_to(makers[name], node, makers):
                return f"its nodes go round in a circle: {what} reads {name}, which is made of it"
            return f"its nodes are not sorted: {what} reads {name}, which is made behind it"
        made.update(node.output)
    return ""


def _leads_to(node: Any, wanted: Any, makers: Mapping[str, Any]) -> bool:
    """Is `wanted` among what a node is made of?"""
    seen: set[int] = set()
    left = [node]
    while left:
        one = left.pop()
        if one is wanted or one.output == wanted.output:
            return True
        if id(one) not in seen:
            seen.add(id(one))
            left += [makers[name] for name in one.input if name in makers]
    return False


def _refused(proto: Any) -> str:
    """What onnx's checker says of the model without its weights, mended as this file tells."""
    import onnx

    try:
        onnx.checker.check_model(_mended(proto))
    except onnx.checker.ValidationError as error:
        return next((line for line in str(error).splitlines() if line.strip()), "it is refused")
    return ""


def _mended(proto: Any) -> Any:
    import onnx

    made = onnx.ModelProto()
    made.ir_version = max(proto.ir_version, OWN_IR) if proto.ir_version >= 3 else proto.ir_version
    made.opset_import.extend(proto.opset_import)
    made.functions.extend(proto.functions)
    _fill(made.graph, proto.graph)
    made.graph.name = proto.graph.name or "graph"
    for node in itertools.chain(_nodes(made.graph), *map(_nodes, made.functions)):
        for sparse_one in (s for a in node.attribute for s in tensors.sparse_of(a)):
            if tensors.beside(sparse_one.values) or tensors.beside(sparse_one.indices):
                sparse_one.values.data_location = sparse_one.indices.data_location = (
                    tensors.EXTERNAL
                )
    for tensor in filter(tensors.beside, tensors.every(made)):
        kind, name = tensor.data_type, tensor.name
        tensor.CopyFrom(onnx.TensorProto(name=name, data_type=kind, dims=[0]))
    return made


def _fill(made: Any, graph: Any) -> None:
    """The main graph, each weight as an empty tensor of its name: how much it holds was looked at."""
    for name in ("node", "input", "output"):
        getattr(made, name).extend(getattr(graph, name))
    weights = (*graph.initializer, *(held.values for held in graph.sparse_initializer))
    for tensor in weights:
        made.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=[0])
    for value in (*made.input, *made.output):
        if not value.type.WhichOneof("value"):
            value.type.tensor_type.elem_type = FLOAT
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
