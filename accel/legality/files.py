"""The files: external data that is there and inside the model's folder, and protobuf's 2 GB.

A file above that limit is no ONNX model to any parser: it is not judged, but refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from accel import graph as graphs
from accel.legality import _graph
from accel.values import Finding, Request, Target

ENGINES = ()
MISSING = "NVIDIA/TensorRT#4257: 'WeightsContext.cpp:178: Failed to open file'"
LARGE = "onnx/onnx-tensorrt#892: 'ModelProto exceeds maximum protobuf size of 2GB'"
NEAR_BYTES = graphs.INLINE_LIMIT_BYTES
BESIDE = "accel quantize MODEL --recipe fp32 (weights go beside the file)"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """What could not be read, and a file that no parser takes whole."""
    if graph.trouble:
        yield Finding("files", "error", graph.trouble, str(graph.path.name), source=MISSING)
    size = graph.path.stat().st_size
    if size > NEAR_BYTES:
        limit = _graph.PROTOBUF_BYTES / 1e9
        said = f"{size / 1e9:.2f} GB in one file; protobuf takes {limit:.2f}, and what tools add counts"
        yield Finding("files", "warning", said, str(graph.path.name), source=LARGE, fix=BESIDE)
