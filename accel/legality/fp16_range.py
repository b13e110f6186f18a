"""float16: what is likely to leave its range. The recipe fp16 measures; this rule can only warn.

Squares and their sums leave the range first (values above 256 square to more than 65504), so Pow and
the reductions of a norm that is written out are what peers' users met.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy

from accel.legality import _graph
from accel.values import Finding, Request, Target

ENGINES = ()
LARGEST = 65504.0  # of float16 (IEEE 754 binary16)
SMALLEST = 2.0**-24  # its least positive value
SHARE = 0.01  # of a weight's values that may vanish
NORM = (
    "Pow",
    "ReduceMean",
    "ReduceSum",
    "ReduceSumSquare",
    "ReduceL2",
    "ReduceProd",
    "ReduceLogSumExp",
)
LAYER = "NVIDIA/TensorRT#2781: 'Running layernorm after self-attention in FP16 may cause overflow'"
REDUCE = "pytorch/TensorRT#4061: 'layernorm after self-attention with FP16 Reduce or Pow may cause overflow'"
WEIGHTS = "NVIDIA/TensorRT#3101: 'Detected finite FP32 values which would overflow in FP16'"
RECIPE = "accel quantize MODEL --recipe fp16 --data feeds.npz, on the float32 graph"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """float16 nodes of a norm, and float16 weights that are infinite or vanished."""
    for node in graph.standard():
        if not any(graph.dtype(n) == "FLOAT16" for n in node.inputs):
            continue
        if node.operator in NORM:
            said = f"{node.operator} in FLOAT16: sums and squares overflow at {LARGEST:g}"
            yield Finding("fp16_range", "warning", said, node.place, node.operator, REDUCE, RECIPE)
        elif node.operator == "LayerNormalization" and node.attributes.get("stash_type", 1) != 1:
            said = "LayerNormalization that computes its mean and variance in FLOAT16 (stash_type)"
            yield Finding("fp16_range", "warning", said, node.place, node.operator, LAYER, RECIPE)
    for name in graph.constants:
        yield from _weight(graph, name)


def _weight(graph: _graph.Graph, name: str) -> Iterator[Finding]:
    if graph.dtype(name) != "FLOAT16":
        return
    value = graph.value(name)
    if value is None:
        return
    if not numpy.isfinite(value).all():
        said = "a FLOAT16 weight that is infinite or NaN: its values left the range"
        yield Finding("fp16_range", "error", said, name, source=WEIGHTS, fix=RECIPE)
