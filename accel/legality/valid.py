"""What no runtime could run, types that contradict each other, and names that are used twice or never read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import onnx

from accel import shapes, sound
from accel.legality import _graph, _tensorrt
from accel.values import Finding, Request, Target

ENGINES = ()
CHECKER = "onnx.checker.check_model, and accel.sound"
TYPES = "ONNX Runtime 1.32: 'Type Error: Type (tensor(int64)) of output arg (y) of node () does not match'"
NAMES = "onnx/onnx-tensorrt#949: 'Output name is not unique'"
SAME = "ONNX Runtime 1.32: 'This is an invalid model. Error: two nodes with same node name'"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """What the opener refuses first."""
    if wrong := sound.trouble(graph.proto):
        yield Finding("valid", "error", wrong[:300], source=CHECKER)
    for said in shapes.contradictions(graph.proto):
        yield Finding("valid", "error", said, source=TYPES)
    made = Counter(name for node in graph.nodes if not node.part for name in node.outputs if name)
    for name, times in made.items():
        if times > 1:
            said = f"{name} is made by {times} nodes; a value has one maker"
            yield Finding("valid", "error", said, name, source=NAMES)
    named = Counter(node.name for node in graph.nodes if node.name and not node.part)
    for name, times in named.items():
        if times > 1:
            said = f"{times} nodes are called {name}; each name may stand once"
            yield Finding("valid", "error", said, name, source=SAME, fix=_tensorrt.FIX)
    for name in graph.inputs:
        if name not in graph.consumers and name not in graph.outputs:
            said = f"input {name} is read by nothing; TensorRT may leave it out of the engine's bindings"
            yield Finding(
                "valid", "note", said, name, source="accel's own rule: a feed must name it"
            )


def fix(graph: _graph.Graph, target: Target) -> tuple[Any, list[str]]:
    """The second node of a name, and those after it, get a number."""
    made = onnx.ModelProto()
    made.CopyFrom(graph.proto)
    seen, lines = {n.name for n in made.graph.node}, []
    once: set[str] = set()
    for node in made.graph.node:
        if node.name and node.name in once:
            number = next(i for i in range(1, len(seen) + 2) if f"{node.name}_{i}" not in seen)
            lines.append(f"a second {node.name} is called {node.name}_{number}")
            node.name = f"{node.name}_{number}"
        once.add(node.name)
        seen.add(node.name)
    return (made, lines) if lines else (graph.proto, [])
