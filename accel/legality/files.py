"""The files: external data that is there and inside the model's folder, and protobuf's 2 GB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from accel.legality import _graph
from accel.values import Finding, Request, Target

ENGINES = ()
PROTOBUF_BYTES = 2**31 - 1
MISSING = "NVIDIA/TensorRT#4257: 'WeightsContext.cpp:178: Failed to open file'"
LARGE = "onnx/onnx-tensorrt#892: 'ModelProto exceeds maximum protobuf size of 2GB'"
BESIDE = "accel quantize MODEL --recipe fp32 (weights go beside the file)"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """What could not be read, and a file that no parser takes whole."""
    if graph.trouble:
        yield Finding("files", "error", graph.trouble, str(graph.path.name), source=MISSING)
    size = graph.path.stat().st_size
    if size > PROTOBUF_BYTES:
        said = f"{size / 1e9:.2f} GB in one file; protobuf takes {PROTOBUF_BYTES / 1e9:.2f}"
        yield Finding("files", "error", said, str(graph.path.name), source=LARGE, fix=BESIDE)
