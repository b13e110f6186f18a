"""Nodes put where they belong, each behind what makes its inputs, and names that are new."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from accel import graph

RUNTIMES = ("", "ai.onnx", "com.microsoft")  # whose QuantizeLinear and DequantizeLinear are one
INITIALIZERS_ALONE = (
    4  # the IR version from which an initializer need not be an input as well (ONNX)
)


def mark(proto: Any, wanted: Iterable[tuple[str, str]]) -> str:
    """What makes new names of all these (head, tail), put in between: nothing, unless the graph has one.

    One that was quantized before, by accel or by others, does. A number behind a name, as accel
    counts several of a kind, makes no other name of it."""
    taken = set(names(proto))
    taken |= {re.sub(r"_\d+$", "", name) for name in taken}
    pairs = list(wanted)
    marks = itertools.chain([""], (f"_{i}" for i in itertools.count(2)))
    return next(m for m in marks if taken.isdisjoint(f"{head}{m}{tail}" for head, tail in pairs))


def names(proto: Any) -> Iterator[str]:
    """Of all values and nodes, in subgraphs and functions too; some come twice."""
    for node in graph.walk(proto):
        yield from (node.name, *node.input, *node.output)
    yield from (v.name for v in (*proto.graph.initializer, *proto.graph.input))


def insert(made: Any, first: Sequence[Any], behind: Mapping[str, Sequence[Any]]) -> None:
    """Put in the nodes `first`, and those `behind` the maker of each value, in place."""
    nodes = list(made.graph.node)
    order = list(first)
    for value in made.graph.input:
        order += behind.get(value.name, [])
    for node in nodes:
        order.append(node)
        for name in node.output:
            order += behind.get(name, [])
    made.graph.ClearField("node")
    made.graph.node.extend(order)
    made.ir_version = max(made.ir_version, INITIALIZERS_ALONE)


def closed(proto: Any) -> Any:
    """The graph whose inputs are what a caller must give: an old one lists its weights among them too.

    Accel's ports are without these, so nobody gives them; engines take them for constants now."""
    fixed = {t.name for t in proto.graph.initializer}
    given = [v for v in proto.graph.input if v.name not in fixed]
    if len(given) == len(proto.graph.input):
        return proto
    made = type(proto)()
    made.CopyFrom(proto)
    made.graph.ClearField("input")
    made.graph.input.extend(given)
    made.ir_version = max(made.ir_version, INITIALIZERS_ALONE)
    return made


def drop_unread(made: Any) -> None:
    """Leave out the initializers that nothing reads any more."""
    read = {n for node in made.graph.node for n in reads(node)}
    read |= {v.name for v in made.graph.output}
    gone = {t.name for t in made.graph.initializer} - read
    for field in ("initializer", "input"):  # an old graph lists its weights among its inputs too
        kept = [v for v in getattr(made.graph, field) if v.name not in gone]
        made.graph.ClearField(field)
        getattr(made.graph, field).extend(kept)


def rounds(node: Any, operator: str) -> bool:
    """Is a node this one of QuantizeLinear and DequantizeLinear? One of another domain may have the name
    and neither inputs nor outputs: onnx's checker does not know it."""
    named = node.op_type == operator and node.domain in RUNTIMES
    return named and len(node.input) > 1 and len(node.output) > 0


def uses(proto: Any) -> Counter[str]:
    """How often a value of the main graph is read: by nodes, in their subgraphs too, and by who calls it. A
    constant that one node may change has one use."""
    found = Counter(name for node in proto.graph.node for name in reads(node))
    found.update(v.name for v in proto.graph.output)
    return found


def reads(node: Any) -> Iterator[str]:
    """What a node reads, its subgraphs too."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            for one in inner.node:
                yield from reads(one)
            yield from (v.name for v in inner.output)
