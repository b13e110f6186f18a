"""Shape arithmetic that ONNX Runtime keeps on the host by design, told apart from fallen nodes.

Its rule (core/framework/fallback_cpu_capability.cc): a GPU would gain nothing from a handful of
integers, and their readers want them on the host. Here a node is one of these where all that it
reads comes from Shape or Size, or is constant, and where it is on the host.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from accel import placement
from accel.values import Placed, Placement

SOURCES = {"Shape", "Size"}


def told_apart(found: Placement, names: set[str]) -> Placement:
    """The same placement, these nodes on the host as planned; `names`: see `shape_nodes`."""
    rows = [part for row in found.placed for part in _split(row, names)]
    return dataclasses.replace(found, placed=placement.gathered(rows))


def shape_nodes(graph: Any) -> set[str]:
    """Names of the nodes that compute with shapes alone, and of their outputs, which stand for
    nodes without a name."""
    fixed = {tensor.name for tensor in graph.initializer}
    shapes: set[str] = set()
    found: set[str] = set()
    for node in graph.node:  # in topological order (ONNX IR, "Graphs")
        given = {name for name in node.input if name}
        if node.op_type == "Constant" or (given and given <= fixed):
            fixed.update(node.output)
        elif node.op_type in SOURCES or (given and given <= shapes | fixed and given & shapes):
            shapes.update(node.output)
            found.update((node.name, *node.output))
    return found - {""}


def _split(row: Placed, names: set[str]) -> list[Placed]:
    if row.device != "CPU" or row.planned_device in ("", "CPU"):
        return [row]
    kept = tuple(name for name in row.nodes if name in names)
    rest = tuple(name for name in row.nodes if name not in names)
    parts = [
        dataclasses.replace(row, nodes=kept, count=len(kept), planned_device="CPU"),
        dataclasses.replace(row, nodes=rest, count=row.count - len(kept)),
    ]
    return [part for part in parts if part.count]
