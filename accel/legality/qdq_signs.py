"""Signedness as processors like it: uint8 activations and int8 weights.

x86 multiplies unsigned by signed bytes (vpdpbusd). With the types the other way round, the same graphs took
2.1 times (MiniLM, dynamic int8, uint8 weights) and 2.7 times as long (ResNet-20, static, int8 activations) in
ONNX Runtime on machines with VNNI.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from accel.legality import _graph, _links, _pairs
from accel.qdq import order
from accel.values import Finding, Request, Target

ENGINES = ("onnxruntime_cpu", "openvino")
SOURCE = "measured: 2.1 and 2.7 times as slow with AVX512-VNNI; vpdpbusd: Intel SDM, volume 2"
FIX = "accel inspect MODEL --lint --fix OUT"
X86 = ("x86_64", "AMD64")
HALFWAY = 128  # between int8 and uint8


def _unsigned_activations(proto: Any) -> list[str]:
    """int8 pairs become uint8 ones: exact."""
    graph, lines = _links.Graph(proto), []
    for node, backs in graph.pairs():
        found = graph.numbers(node)
        if node.input[0] in graph.constants:
            continue  # a weight that is rounded at each start: int8 is right, and folded it stays so
        if found is None or found[1].dtype != np.int8 or not graph.alike(node, backs):
            continue
        zero = graph.constant(
            f"{node.input[2]}__uint8", (found[1].astype(np.int16) + HALFWAY).astype(np.uint8)
        )
        for one in (node, *backs):
            _pairs.set_zero(graph, one, zero)
        lines.append(f"{node.input[0]}: int8 values became uint8")
    return lines


def _signed_weights(proto: Any) -> list[str]:
    """uint8 weights become int8 ones: exact."""
    graph, lines = _links.Graph(proto), []
    for node, values in list(graph.weights()):
        found = graph.numbers(node)
        if found is None or values.dtype != np.uint8:
            continue
        whole = (values.astype(np.int16) - HALFWAY).astype(np.int8)
        zero = (found[1].astype(np.int16) - HALFWAY).astype(np.int8)
        name = node.input[0]
        node.input[0] = graph.constant(f"{name}__int8", whole)
        node.input[2] = graph.constant(f"{node.input[2]}__int8", zero)
        lines.append(f"{name}: uint8 weights became int8")
    return lines


RULES = (
    (_unsigned_activations, "int8 activations: x86 multiplies uint8 by int8"),
    (_signed_weights, "uint8 weights: x86 multiplies uint8 by int8, activations first"),
)


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """On x86 alone."""
    if not _applies(graph, target):
        return
    for mend, said in RULES:
        made = onnx.ModelProto()
        made.CopyFrom(graph.proto)
        for line in mend(made):
            where = line.partition(": ")[0]
            yield Finding("qdq_signs", "warning", said, where, _links.QUANTIZE, SOURCE, FIX)


def fix(graph: _graph.Graph, target: Target) -> tuple[Any, list[str]]:
    """Types are exchanged, and zero points with them: the same numbers."""
    made = onnx.ModelProto()
    made.CopyFrom(graph.proto)
    lines = [line for mend, _ in RULES for line in mend(made)] if _applies(graph, target) else []
    if lines:
        order.drop_unread(made)
    return (made, lines) if lines else (graph.proto, [])


def _applies(graph: _graph.Graph, target: Target) -> bool:
    pairs = (_links.QUANTIZE, _links.DEQUANTIZE)
    there = any(n.op_type in pairs for n in graph.proto.graph.node)
    return there and (target.architecture or platform.machine()) in X86
