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
STASHED = "NVIDIA/TensorRT#4493: 'layernorm fp16, The accuracy is still insufficient' (10.10)"
REDUCE = "pytorch/TensorRT#4061: 'layernorm after self-attention with FP16 Reduce or Pow may cause overflow'"
WEIGHTS = "NVIDIA/TensorRT#3101: 'Detected finite FP32 values which would overflow in FP16'"
RECIPE = "accel quantize MODEL --recipe fp16 --data feeds.npz, on the float32 graph"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """float16 nodes of a norm, and float16 weights that are infinite."""
    for node in graph.standard():
        if not any(graph.dtype(n) == "FLOAT16" for n in node.inputs):
            continue
        if node.operator in NORM:
            said = f"{node.operator} in FLOAT16: sums and squares overflow at {LARGEST:g}"
            yield Finding("fp16_range", "warning", said, node.place, node.operator, REDUCE, RECIPE)
        elif node.operator == "LayerNormalization":
            yield _layer(node)
    for name in graph.constants:
        yield from _weight(graph, name)


def _layer(node: _graph.Node) -> Finding:
    """Its mean and variance are float32 by default (stash_type)."""
    where, operator = node.place, node.operator
    if node.attributes.get("stash_type", 1) == 1:
        said = "LayerNormalization in FLOAT16"
        return Finding("fp16_range", "note", said, where, operator, STASHED, RECIPE)
    said = "LayerNormalization in FLOAT16, its mean and variance too"
    return Finding("fp16_range", "warning", said, where, operator, LAYER, RECIPE)


def _weight(graph: _graph.Graph, name: str) -> Iterator[Finding]:
    if graph.dtype(name) != "FLOAT16":
        return
    value = graph.value(name)
    if value is None:
        return
    # a mask, as of masked_fill(-inf), which a sum or a Where puts before a Softmax
    masks = (numpy.isneginf(value) | (value == 0)).all()
    if not masks and not numpy.isfinite(value).all():
        said = "a FLOAT16 weight that is infinite or NaN: its values left the range"
        yield Finding("fp16_range", "error", said, name, source=WEIGHTS, fix=RECIPE)
