"""ONNX Runtime's own operators (domain com.microsoft), as far as their outputs' sizes go.

onnx infers sizes through a model's functions, so each stands in here as a function of standard
operators that has the same sizes. What it computes is of no matter. Signatures: ONNX Runtime,
docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import Any

DOMAIN = "com.microsoft"
HEAD = '<domain: "com.microsoft", opset_import: ["": 18]>'
SAME = "{ y = Identity (x) }"
PRODUCT = "{ like = CastLike (w, x) y = MatMul (x, like) }"
SCALED = "{ left = CastLike (x, s) like = CastLike (w, s) y = MatMul (left, like) }"
# w: [C, 3 H], so that the query's third has the output's width
THIRD = (
    "{cast} right = CastLike (w, left) p = MatMul (left, right) "
    "y, second, third = Split <axis = -1, num_outputs = 3> (p)"
)
# N columns from w of [N, groups, bytes]
COLUMNS = """{
    f = CastLike (w, x)
    axes = Constant <value_ints = [1, 2]> ()
    last = Constant <value_ints = [-1]> ()
    row = ReduceMax <keepdims = 0> (f, axes)
    column = ReduceMax <keepdims = 1> (x, last)
    y = Add (column, row)
}"""
BODIES = {
    "Gelu": f"(x) => (y) {SAME}",
    "FastGelu": f"(x, b) => (y) {SAME}",
    "QuickGelu": f"(x) => (y) {SAME}",
    "BiasGelu": f"(x, b) => (y) {SAME}",
    "SkipLayerNormalization": f"(x, skip, g, b, bias) => (y) {SAME}",
    "SkipSimplifiedLayerNormalization": f"(x, skip, g, bias) => (y) {SAME}",
    "FusedMatMul": f"(x, w) => (y) {PRODUCT}",
    "MatMulIntegerToFloat": f"(x, w, s, sw, zx, zw, b) => (y) {SCALED}",
    "DynamicQuantizeMatMul": f"(x, w, sw, zw, b) => (y) {PRODUCT}",
    "MatMulNBits": f"(x, w, s, z, g, b) => (y) {COLUMNS}",
    "Attention": "(x, w, b, mask, past, bias, length) => (y) "
    f"{{ {THIRD.format(cast='left = Identity (x)')} }}",
    "QAttention": "(x, w, b, sx, sw, mask, zx, zw, past) => (y) "
    f"{{ {THIRD.format(cast='left = CastLike (x, sx)')} }}",
    "MultiHeadAttention": f"(x, k, v, b, mask, bias, pk, pv) => (y) {SAME}",
    "EmbedLayerNormalization": "(ids, segments, words, positions, segment, g, b, mask, where) "
    "=> (y, index) { y = Gather (words, ids) index = Identity (ids) }",
    "QEmbedLayerNormalization": "(ids, segments, words, positions, segment, g, b, mask, sw, sp, ss, sg, "
    "sb, zw, zp, zs, zg, zb) => (y, index) "
    "{ r = Gather (words, ids) y = CastLike (r, sw) index = Identity (ids) }",
}
# Attributes by which a node's sizes are others than its function's here.
ODD = {
    "FusedMatMul": ("transA", "transB", "transBatchA", "transBatchB"),
    "Attention": ("qkv_hidden_sizes",),
}


def add_sizes(proto: Any) -> None:
    """Give the model a function for each of ONNX Runtime's own operators in it whose sizes are known."""
    import onnx

    own = {(f.domain, f.name) for f in proto.functions}
    nodes = [n for n in proto.graph.node if n.domain == DOMAIN and (DOMAIN, n.op_type) not in own]
    odd = {n.op_type for n in nodes for a in n.attribute if a.name in ODD.get(n.op_type, ()) and (a.i or a.ints)}  # fmt: skip
    for name in sorted({n.op_type for n in nodes} - odd):
        if name in BODIES:
            text = f"{HEAD} {name} {BODIES[name]}"
            proto.functions.append(onnx.parser.parse_function(text))
