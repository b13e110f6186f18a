"""Nodes put where they belong: each behind what makes its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

INITIALIZERS_ALONE = (
    4  # the IR version from which an initializer need not be an input as well (ONNX)
)


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


def drop_unread(made: Any) -> None:
    """Leave out the initializers that nothing reads any more."""
    read = {n for node in made.graph.node for n in reads(node)}
    read |= {v.name for v in made.graph.output}
    gone = {t.name for t in made.graph.initializer} - read
    for field in ("initializer", "input"):  # an old graph lists its weights among its inputs too
        kept = [v for v in getattr(made.graph, field) if v.name not in gone]
        made.graph.ClearField(field)
        getattr(made.graph, field).extend(kept)


def reads(node: Any) -> Iterator[str]:
    """What a node reads, its subgraphs too."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            for one in inner.node:
                yield from reads(one)
            yield from (v.name for v in inner.output)
