"""What OpenVINO's ONNX frontend is known to refuse; only what a thread of its project reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from accel.legality import _graph
from accel.values import Finding, Request, Target

ENGINES = ("openvino",)
GRID = "openvinotoolkit/openvino#37770 (2026.1.0): 'The supported shape of the input data tensor is 4D.'"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """GridSample of five axes."""
    for node in graph.standard():
        sizes = graph.sizes.get(node.inputs[0]) if node.operator == "GridSample" else None
        if sizes is not None and len(sizes) != 4:
            said = f"GridSample of {len(sizes)} axes; OpenVINO takes 4"
            yield Finding("openvino_gaps", "error", said, node.place, "GridSample", GRID)
