"""What onnx's own checker refuses, and names that are used twice, never made, or never read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import onnx

from accel.legality import _graph
from accel.values import Finding, Request, Target

ENGINES = ()
CHECKER = "onnx.checker.check_model"
NAMES = "onnx/onnx-tensorrt#949: 'Output name is not unique'"
LAYERS = "onnx/onnx-tensorrt#466: layers of one name are renamed, and reports name the wrong one"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """The checker first; where it refuses, its own words are the finding."""
    refused = _refused(graph)
    if refused:
        yield Finding("valid", "error", refused, source=CHECKER)
    made = Counter(name for node in graph.nodes if not node.part for name in node.outputs if name)
    for name, times in made.items():
        if times > 1:
            said = f"{name} is made by {times} nodes; a value has one maker"
            yield Finding("valid", "error", said, name, source=NAMES)
    named = Counter(node.name for node in graph.nodes if node.name and not node.part)
    for name, times in named.items():
        if times > 1:
            said = f"{times} nodes are called {name}: what is told of one cannot be told apart"
            yield Finding("valid", "warning", said, name, source=LAYERS)
    for name in graph.inputs:
        if name not in graph.consumers and name not in graph.outputs:
            said = f"input {name} is read by nothing; TensorRT may leave it out of the engine's bindings"
            yield Finding(
                "valid", "note", said, name, source="accel's own rule: a feed must name it"
            )


def _refused(graph: _graph.Graph) -> str:
    if graph.trouble or graph.proto.ByteSize() > _graph.LOADED_BYTES:
        return ""  # the rule files speaks of the first; the second does not fit in a protobuf
    if any(not _graph.held(t) for t in graph.proto.graph.initializer):
        return ""
    try:
        onnx.checker.check_model(graph.proto)
    except onnx.checker.ValidationError as error:
        return next((x for x in str(error).splitlines() if x.strip()), "it is refused")[:300]
    return ""
