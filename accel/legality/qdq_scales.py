"""Scales that are no step: 0, below 0, NaN or infinite. Runtimes load them, and answer NaN or nonsense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy

from accel.legality import _graph
from accel.values import Finding, Request, Target

ENGINES = ("onnxruntime_cpu", "onnxruntime_cuda", "openvino")  # the rule qdq speaks for TensorRT
SCALED = ("QuantizeLinear", "DequantizeLinear")
SOURCE = "ONNX QuantizeLinear-13: y = saturate(round(x / y_scale) + y_zero_point)"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Every constant scale."""
    for node in graph.standard():
        value = graph.value(node.inputs[1]) if node.operator in SCALED else None
        if value is None:
            continue
        scales = value.astype(numpy.float64)
        wrong = scales[~(numpy.isfinite(scales) & (scales > 0))]
        if wrong.size:
            said = f"a scale of {wrong.ravel()[0]:g}; it must be above 0, and finite"
            yield Finding("qdq_scales", "error", said, node.place, node.operator, SOURCE)
