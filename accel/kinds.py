"""Data types of a graph's values, behind ONNX Runtime's own operators too: ONNX's inference knows none of those."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from accel import shapes
from accel.errors import BadModel

FLOAT, FLOATS = 1, (1, 10, 11, 16)  # onnx.TensorProto's: float32; and float16, double, bfloat16
PRIVATE = "com.microsoft"
# those whose float inputs are all of one type, and the outputs that are of it: others are
# statistics in float32, or integers (microsoft/onnxruntime docs/ContribOperators.md)
FUSED: Mapping[str, tuple[int, ...]] = {
    "Attention": (0, 1), "MultiHeadAttention": (0, 1, 2), "SkipLayerNormalization": (0, 3),
    "EmbedLayerNormalization": (0, 2), "BiasGelu": (0,), "FastGelu": (0,), "Gelu": (0,),
}  # fmt: skip
# and more whose outputs are so; what else they read may be of another type
MORE: Mapping[str, tuple[int, ...]] = {
    "SkipSimplifiedLayerNormalization": (0, 3), "GroupQueryAttention": (0,), "RotaryEmbedding": (0,),
    "QuickGelu": (0,), "BiasAdd": (0,), "BiasSoftmax": (0,), "FusedConv": (0,), "FusedGemm": (0,),
    "FusedMatMul": (0,), "MatMulNBits": (0,),
}  # fmt: skip


def kinds(proto: Any) -> dict[str, int]:
    """Value of the main graph -> onnx.TensorProto's number of its type, where that can be told.

    Raises BadModel like `shapes.infer`."""
    return {name: int(one.elem_type) for name, one in types(proto).items() if one.elem_type}


def types(proto: Any) -> dict[str, Any]:
    """Value of the main graph -> its TypeProto.Tensor. Raises BadModel like `shapes.infer`."""
    light = shapes.lightened(proto)
    known = {v.name for v in (*light.graph.value_info, *light.graph.output)}
    new = [(o, kind) for o, kind in _private(proto) if o not in known]
    for output, kind in new:
        value = light.graph.value_info.add(name=output)
        value.type.tensor_type.elem_type = kind
    try:
        found = shapes.infer(light).graph
    except BadModel:  # of types that do not fit together, such as those told above
        found = shapes.infer(proto).graph
    values = (*found.value_info, *found.input, *found.output)
    return {v.name: v.type.tensor_type for v in values}


def fused(node: Any) -> bool:
    """Is it one whose float inputs and outputs are of one type?"""
    return bool(node.domain == PRIVATE and node.op_type in FUSED)


def of_its_type(node: Any) -> list[str]:
    """The outputs of one of ONNX Runtime's own that have the type of what it reads."""
    slots = {**FUSED, **MORE}.get(node.op_type, ()) if node.domain == PRIVATE else ()
    return [o for i, o in enumerate(node.output) if o and i in slots]


def _private(proto: Any) -> Iterator[tuple[str, int]]:
    """Those outputs, with the type of a weight that the node reads, or of most weights."""
    given = {t.name: t.data_type for t in proto.graph.initializer}
    most = Counter(kind for kind in given.values() if kind in FLOATS).most_common(1)
    usual = most[0][0] if most else FLOAT
    given |= {v.name: int(v.type.tensor_type.elem_type) for v in proto.graph.input}
    for node in proto.graph.node:
        read = (k for n in node.input if (k := given.get(n, 0)) in FLOATS)
        kind = next(read, usual)
        yield from ((output, kind) for output in of_its_type(node))
