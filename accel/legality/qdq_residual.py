"""A pair between a product and the addition that it could be fused with.

The product would add a residual in its own accumulator; rounded before, it is stored, and read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from accel.legality import _graph, _links
from accel.qdq import order
from accel.qdq.sites import PRODUCTS
from accel.values import Finding, Request, Target

ENGINES = ("openvino", "tensorrt")
SAID = "a residual Add reads a rounded product: it cannot be fused with it"
SOURCE = (
    "NVIDIA TensorRT, Q/DQ placement, on suboptimal fusions: 'The extra pair of Q/DQ operators ... forces "
    "the separation'"
)
FIX = "accel inspect MODEL --lint --fix OUT"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Each such addition."""
    for line in _mended(_copy(graph.proto)):
        yield Finding("qdq_residual", "warning", SAID, line.partition(": ")[0], "Add", SOURCE, FIX)


def fix(graph: _graph.Graph, target: Target) -> tuple[Any, list[str]]:
    """The product's own value is added: more exact by half a step."""
    made = _copy(graph.proto)
    lines = _mended(made)
    if lines:
        order.drop_unread(made)
    return (made, lines) if lines else (graph.proto, [])


def _mended(proto: Any) -> list[str]:
    graph, lines = _links.Graph(proto), []
    for node in proto.graph.node:
        if node.op_type != "Add" or node.domain:
            continue
        backs = [graph.makers.get(name) for name in node.input]
        if not all(b is not None and order.rounds(b, _links.DEQUANTIZE) for b in backs):
            continue  # the other side must be int8 as well, else nothing is gained
        for slot, back in enumerate(backs):
            value = _product(graph, back)
            if value:
                node.input[slot] = value
                lines.append(f"{node.name or node.output[0]}: adds {value} before it is rounded")
                break
    _unread(proto, _links.Graph(proto))
    return lines


def _product(graph: _links.Graph, back: Any) -> str:
    """What a pair rounds, where a product makes it, the pair alone reads it, and one node reads that; and
    where rounding is all that the pair does."""
    there = graph.makers.get(back.input[0])
    if there is None or not order.rounds(there, _links.QUANTIZE):
        return ""
    made = graph.makers.get(there.input[0])
    chain = (there.input[0], there.output[0], back.output[0])
    outputs = {v.name for v in graph.proto.graph.output}
    alone = all(len(graph.readers.get(name, [])) == 1 for name in chain)
    if made is None or made.op_type not in PRODUCTS or not alone or outputs & {*chain[1:]}:
        return ""
    return str(there.input[0]) if graph.alike(there, [back]) and _rounds_only(graph, there) else ""


def _rounds_only(graph: _links.Graph, there: Any) -> bool:
    """Does a Q leave values below 0 what they are? Where 0 is the least that it gives, it may stand in the
    stead of a Relu, which ONNX Runtime's quantizer takes out then. Without numbers it is uint8 from 0 on."""
    found = graph.numbers(there)
    if found is None or found[1].dtype not in (np.int8, np.uint8):
        return False
    return not np.any(found[1] == np.iinfo(found[1].dtype).min)


def _unread(proto: Any, graph: _links.Graph) -> None:
    """Take out pairs that nothing reads any more."""
    outputs = {v.name for v in proto.graph.output}
    backs = [
        n for n in proto.graph.node
        if order.rounds(n, _links.DEQUANTIZE) and n.output[0] not in graph.readers and n.output[0] not in outputs
    ]  # fmt: skip
    for back in backs:
        there = graph.makers.get(back.input[0])
        proto.graph.node.remove(back)
        if there is None or not order.rounds(there, _links.QUANTIZE):
            continue
        if there.output[0] not in outputs and len(graph.readers[there.output[0]]) == 1:
            proto.graph.node.remove(there)


def _copy(proto: Any) -> Any:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made
