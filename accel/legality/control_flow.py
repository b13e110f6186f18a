"""If and Loop: what TensorRT asks of the shapes that go through them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from accel.legality import _graph, _tensorrt
from accel.values import Finding, Request, Target

ENGINES = _tensorrt.ENGINES
IF = "NVIDIA/TensorRT#4603: 'IIfConditionalOutputLayer inputs must have the same shape. Shapes are [2] and [1].'"
RANKS = f"{_tensorrt.LIST_10_15}: If, outputs of the same rank and of different names"
LOOP = f"{_tensorrt.LIST_10_15}: Loop, no dynamic length of scan outputs, the same shapes in all iterations"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Every If and Loop, in whatever part. Of an If whose condition is constant the parser takes one
    branch alone (onnx-tensorrt importers, 10.1 GA)."""
    for node in graph.standard():
        if node.operator == "If" and node.inputs[0] not in graph.constants:
            yield from _branches(graph, node)
        elif node.operator == "Loop":
            yield from _loop(graph, node)


def _branches(graph: _graph.Graph, node: _graph.Node) -> Iterator[Finding]:
    one, other = (node.attributes[n].output for n in ("then_branch", "else_branch"))
    for a, b in zip(one, other, strict=False):
        sizes = [_sizes(graph, v) for v in (a, b)]
        if a.name == b.name:
            said = f"If: both branches call an output {a.name}; the names must differ"
            yield Finding("control_flow", "error", said, node.place, "If", RANKS)
        if None in sizes:
            said = "If: the shape of an output of a branch cannot be told; both must be equal"
            yield Finding("control_flow", "unknown", said, node.place, "If", IF)
        elif len(sizes[0]) != len(sizes[1]):
            said = f"If: its branches give {len(sizes[0])} and {len(sizes[1])} axes; they must be equally many"
            yield Finding("control_flow", "error", said, node.place, "If", RANKS)
        elif any(
            isinstance(x, int) and isinstance(y, int) and x != y
            for x, y in zip(*sizes, strict=True)
        ):
            said = f"If: its branches give {list(sizes[0])} and {list(sizes[1])}; the shapes must be equal"
            yield Finding("control_flow", "error", said, node.place, "If", IF)


def _sizes(graph: _graph.Graph, value: Any) -> Any:
    found = graph.sizes.get(value.name)
    return found if found is not None else _graph.shape(value)


def _loop(graph: _graph.Graph, node: _graph.Node) -> Iterator[Finding]:
    body = node.attributes["body"]
    carried = len(node.inputs) - 2
    scans = len(body.output) - 1 - carried
    trips = node.inputs[0] if node.inputs else ""
    if scans > 0 and trips not in graph.constants:
        said = (
            f"Loop: {scans} scan outputs of a trip count that is not constant; their length must be"
        )
        yield Finding("control_flow", "error", said, node.place, "Loop", LOOP)
    for before, after in zip(body.input[2:], body.output[1 : 1 + carried], strict=False):
        a, b = _graph.shape(before), _sizes(graph, after)
        if a is not None and b is not None and len(a) != len(b):
            said = f"Loop: {before.name} goes in with {len(a)} axes and comes out with {len(b)}"
            yield Finding("control_flow", "error", said, node.place, "Loop", LOOP)
