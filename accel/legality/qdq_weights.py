"""Q/DQ of weights, and repeated pairs: what costs time or accuracy in every runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from accel.legality import _graph, _links, _pairs
from accel.qdq import order
from accel.values import Finding, Request, Target

ENGINES = ()
FOLD = (
    "ONNX Runtime documentation, Quantize ONNX Models: a weight is integers and a DequantizeLinear"
)
TWICE = "ONNX QuantizeLinear-13: with the same scale and zero point it gives the same number again"
AXIS = (
    "ONNX DequantizeLinear-13: 'axis'; NVIDIA/TensorRT#994: 'Assertion failed: K == scale.count()'"
)
FIX = "accel inspect MODEL --lint --fix OUT"


def _single_pairs(proto: Any) -> list[str]:
    """Of DQ, Q, DQ with the same numbers the second rounding is left out: exact."""
    graph, lines, gone = _links.Graph(proto), [], []
    for node, backs in graph.pairs():
        before = graph.makers.get(node.input[0])
        if before is None or not order.rounds(before, _links.DEQUANTIZE):
            continue
        one, two = graph.numbers(before), graph.numbers(node)
        if one is None or two is None or one[1].dtype != two[1].dtype:
            continue
        if one[0].size > 1 and _pairs.written_axis(before) != _pairs.written_axis(node):
            continue
        if not all(np.array_equal(a, b) for a, b in zip(one, two, strict=True)):
            continue
        for back in backs:
            back.input[0] = before.input[0]
        gone.append(node)
        lines.append(f"{node.input[0]}: rounded once, not twice")
    for node in gone:
        proto.graph.node.remove(node)
    return lines


FIXES = (_pairs.folded_weights, _single_pairs, _pairs.along_channels)
SAID = (
    "a float weight is quantized anew at each start, and is four times as large on disk",
    "a value is rounded twice with the same scale",
    "a weight's scales lie along another axis than its output channels: one step for all of them",
)
RULES = tuple(zip(FIXES, SAID, (FOLD, TWICE, AXIS), strict=True))


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """What each fix would change is a finding."""
    if not any(n.op_type in (_links.QUANTIZE, _links.DEQUANTIZE) for n in graph.proto.graph.node):
        return
    for mend, said, source in RULES:
        for line in mend(_copy(graph.proto)):
            where = line.partition(": ")[0]
            yield Finding("qdq_weights", "warning", said, where, _links.QUANTIZE, source, FIX)


def fix(graph: _graph.Graph, target: Target) -> tuple[Any, list[str]]:
    """Outputs stay the same to the bit, but for scales along another axis: half a step."""
    made = _copy(graph.proto)
    lines = [line for mend in FIXES for line in mend(made)]
    if lines:
        order.drop_unread(made)
    return (made, lines) if lines else (graph.proto, [])


def _copy(proto: Any) -> Any:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made
