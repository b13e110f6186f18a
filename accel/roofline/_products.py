"""Operations of what multiplies matrices: a product and its sum are two.

A product of [M, K] and [K, N] is M N dot products of length K: 2 M N K operations. All others here are
that formula under other names. Zeros that pad a convolution count, as in the published numbers; so
do products that Winograd's or Strassen's algorithms would save.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

from accel.roofline._site import Site, Unknown

SOFTMAX = 5  # maximum, difference, exponential, sum, division: an element each


def matmul(site: Site) -> int:
    """y [..., M, N] = a [..., M, K] b [..., K, N]: 2 K for each element of y."""
    return 2 * site.given() * site.dims(0)[-1]


def fused_matmul(site: Site) -> int:
    """The same; K is a's last axis but one where a is transposed."""
    axis = -2 if site.attributes.get("transA") else -1
    return 2 * site.given() * site.dims(0)[axis]


def gemm(site: Site) -> int:
    """y [M, N] = a b + c: 2 M N K, and M N for c where it is given."""
    k = site.dims(0)[0 if site.attributes.get("transA") else 1]
    return site.given() * (2 * k + site.has(2))


def nbits(site: Site) -> int:
    """y [..., N] = x [..., K] w: 2 K for each element of y; what unpacks w is not counted."""
    return 2 * site.given() * site.dims(0)[-1]


def conv(site: Site, weight: int = 1, bias: int = 2) -> int:
    """Each element of y sums over a group's channels and the kernel: w [M, C / groups, k...], so
    2 (C / groups) prod(k), and one more for the bias."""
    products = math.prod(site.dims(weight)[1:])
    return site.given() * (2 * products + site.has(bias))


def conv_transpose(site: Site) -> int:
    """Each element of x spreads over a group's output channels and the kernel: w [C, M / groups,
    k...], so 2 (M / groups) prod(k); one more an element of y for the bias."""
    spread = 2 * site.taken(0) * math.prod(site.dims(1)[1:])
    return spread + (site.given() if site.has(2) else 0)


def recurrent(site: Site) -> int:
    """LSTM, GRU, RNN: at each of T B steps and D directions, w [D, G H, I] and r [D, G H, H]
    meet a vector: 2 T B (prod(w) + prod(r)). What the gates do an element is not counted."""
    steps = math.prod(site.dims(0)[:2])
    return 2 * steps * (site.taken(1) + site.taken(2))


def einsum(site: Site) -> int:
    """Two operands: a product and its sum for each combination of all indices that occur; one: a
    sum each. Raises Unknown for more: that depends on the order in which they are contracted."""
    equation = site.attributes["equation"].decode().replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    if len(terms) > 2 or "." in equation:
        raise Unknown(f"Einsum {equation!r}: more than two operands, or an ellipsis")
    sizes: Counter[str] = Counter()
    for i, term in enumerate(terms):
        for letter, size in zip(term, site.dims(i), strict=True):
            sizes[letter] = max(sizes[letter], size)
    return len(terms) * math.prod(sizes.values())


def _attended(pairs: int, heads: int, to_score: int, to_value: int) -> int:
    """`pairs` of a query and a key: a dot product of `to_score`, a softmax, a sum of `to_value`."""
    return pairs * heads * (2 * to_score + SOFTMAX + 2 * to_value)


def _pairs(queries: int, keys: int, causal: object) -> int:
    """Of a query and a key. Where none looks ahead, S queries see 1, 2, ... S of as many keys."""
    return queries * (queries + 1) // 2 if causal and queries == keys else queries * keys


def attention(site: Site) -> int:
    """ai.onnx Attention: q, k, v as [B, heads, S, d] or [B, S, heads d]. All pairs of a batch, or,
    with is_causal and no past, those of `_pairs`."""
    q, k, v = (site.dims(i) for i in range(3))
    flat = len(q) == 3
    heads = int(site.attributes["q_num_heads"]) if flat else q[1]
    key_heads = int(site.attributes["kv_num_heads"]) if flat else k[1]
    queries, keys = q[-2], k[-2] + (site.dims(4)[2] if site.has(4) else 0)
    pairs = _pairs(queries, keys, site.attributes.get("is_causal"))
    to_score = q[-1] // (heads if flat else 1)
    to_value = v[-1] // (key_heads if flat else 1)
    return _attended(q[0] * pairs, heads, to_score, to_value)


def fused_attention(site: Site) -> int:
    """com.microsoft (Q)Attention: x [B, S, C], w [C, 3 H]. The product with w, then every head."""
    batch, length, width = site.dims(0)
    total = site.dims(1)[1]
    hidden, heads = site.made()[2], int(site.attributes["num_heads"])
    into = 2 * batch * length * width * total
    pairs = batch * _pairs(length, length, site.attributes.get("unidirectional"))
    return into + _attended(pairs, heads, hidden // heads, hidden // heads)


def multi_head(site: Site) -> int:
    """com.microsoft MultiHeadAttention: q [B, S, H], k [B, L, H], v [B, L, V]."""
    if not site.has(1) or len(site.dims(1)) != 3:
        raise Unknown("MultiHeadAttention with packed or cached keys")
    (batch, queries, width), keys = site.dims(0), site.dims(1)[1]
    heads = int(site.attributes["num_heads"])
    pairs = batch * _pairs(queries, keys, site.attributes.get("unidirectional"))
    return _attended(pairs, heads, width // heads, site.dims(2)[-1] // heads)


MS = "com.microsoft."
PRODUCTS: Mapping[str, Callable[[Site], int]] = {
    "MatMul": matmul,
    "MatMulInteger": matmul,
    "QLinearMatMul": matmul,
    "Gemm": gemm,
    "Conv": conv,
    "ConvInteger": lambda site: conv(site, bias=99),
    "QLinearConv": lambda site: conv(site, weight=3, bias=8),
    "ConvTranspose": conv_transpose,
    "LSTM": recurrent,
    "GRU": recurrent,
    "RNN": recurrent,
    "Einsum": einsum,
    "Attention": attention,
    MS + "FusedMatMul": fused_matmul,
    MS + "DynamicQuantizeMatMul": matmul,
    MS + "MatMulIntegerToFloat": matmul,
    MS + "MatMulNBits": nbits,
    MS + "FusedConv": conv,
    MS + "Attention": fused_attention,
    MS + "QAttention": fused_attention,
    MS + "MultiHeadAttention": multi_head,
}
# Those that take int8 as it is, whatever type they give.
INTEGER = {
    "MatMulInteger", "QLinearMatMul", "ConvInteger", "QLinearConv",
    MS + "DynamicQuantizeMatMul", MS + "MatMulIntegerToFloat", MS + "QAttention",
}  # fmt: skip
