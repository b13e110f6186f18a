"""Shape arithmetic that ONNX Runtime keeps on the host by design, told apart from fallen nodes.

Its rule (GetCpuPreferredNodes in core/framework/fallback_cpu_capability.cc): a node that reads
nothing but sizes, which are on the host already, and small constants runs there too, unless the
GPU's own kernel takes those sizes from the host. Copying them back and forth would cost more.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from accel import placement
from accel.values import Placed, Placement

SOURCES = {"Shape", "Size"}  # their output is on the host wherever they run
LARGEST = 100  # elements of a constant, kSmallInitializerThreshold there
TAKEN_FROM_HOST = {  # inputs that the CUDA provider's kernels want there: such a node stays on the GPU
    "ConstantOfShape": {0}, "Expand": {1}, "Pad": {1, 2, 3}, "Range": {0, 1, 2}, "Reshape": {1},
    "Slice": {1, 2, 3, 4}, "Tile": {1}, "TopK": {1},
}  # fmt: skip


def told_apart(found: Placement, names: set[str]) -> Placement:
    """The same placement, these nodes on the host as planned; `names`: see `shape_nodes`."""
    rows = [part for row in found.placed for part in _split(row, names)]
    return dataclasses.replace(found, placed=placement.gathered(rows))


def shape_nodes(graph: Any) -> set[str]:
    """Names of the nodes that compute with sizes alone, and of their outputs, which stand for
    nodes without a name."""
    fixed = {t.name for t in graph.initializer if math.prod(t.dims) <= LARGEST}
    sizes: set[str] = set()
    found: set[str] = set()
    for node in graph.node:  # in topological order (ONNX IR, "Graphs")
        if node.op_type == "Constant":
            small = all(math.prod(a.t.dims) <= LARGEST for a in node.attribute)
            fixed.update(node.output if small else ())
        elif node.op_type in SOURCES or _stays(node, sizes, fixed):
            sizes.update(node.output)
            found.update((node.name, *node.output))
    return found - {""}


def _stays(node: Any, sizes: set[str], fixed: set[str]) -> bool:
    given = {name for name in node.input if name}
    taken = TAKEN_FROM_HOST.get(node.op_type, set())
    if any(name in sizes for i, name in enumerate(node.input) if i in taken):
        return False
    return bool(given & sizes) and given <= sizes | fixed


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
