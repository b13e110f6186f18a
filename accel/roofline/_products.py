"""Operations of what multiplies matrices: a product and its sum are two.

A product of [M, K] and [K, N] is M N dot products of length K: 2 M N K operations. All others here are
that formula under other names. Zeros that pad a convolution count, as in the published numbers; so
do products that Winograd's or Strassen's algorithms would save.
"""

from __future__ import annotations

import math
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
    """Two operands: a product for each combination of the indices that occur, and its sum where both
    share one that is summed; what one alone sums over is summed before. One: a sum each, or nothing
    where values only move. Raises Unknown for more: that depends on the order of contraction."""
    equation = site.attributes["equation"].decode().replace(" ", "")
    before, arrow, after = equation.partition("->")
    terms = before.split(",")
    if len(terms) > 2 or "." in equation:
        raise Unknown(f"Einsum {equation!r}: more than two operands, or an ellipsis")
    own = [dict(zip(term, site.dims(i), strict=True)) for i, term in enumerate(terms)]
    letters = {letter for one in own for letter in one}
    sizes = {letter: max(one.get(letter, 0) for one in own) for letter in letters}  # 1 repeats
    kept = after if arrow else "".join(letter for letter in letters if before.count(letter) == 1)
    summed = {letter for letter, size in sizes.items() if letter not in kept and size > 1}
    if len(own) == 1:
        return math.prod(sizes.values()) if summed else 0
    alone = summed & (own[0].keys() ^ own[1].keys())
    sums: int = sum(math.prod(one.values()) for one in own if alone & one.keys())
    rest: int = math.prod(size for letter, size in sizes.items() if letter not in alone)
    per_product = 2 if summed - alone else 1
    return sums + per_product * rest


def _attended(pairs: int, heads: int, to_score: int, to_value: int) -> int:
    """`pairs` of a query and a key: a dot product of `to_score`, a softmax, a sum of `to_value`."""
    return pairs * heads * (2 * to_score + SOFTMAX + 2 * to_value)


def _pairs(queries: int, keys: int, causal: object) -> int:
    """Of a query and a key. Where none looks ahead, queries see 1, 2, ... keys, then all of them: the
    mask begins at its upper left (ai.onnx Attention, is_causal)."""
    if not causal:
        return queries * keys
    few = min(queries, keys)
    return few * (few + 1) // 2 + (queries - few) * keys


def attention(site: Site) -> int:
    """ai.onnx Attention: q, k, v as [B, heads, S, d] or [B, S, heads d]. Every query sees all of the
    past, and of the keys beside it those of `_pairs`."""
    q, k, v = (site.dims(i) for i in range(3))
    flat = len(q) == 3
    heads = int(site.attributes["q_num_heads"]) if flat else q[1]
    key_heads = int(site.attributes["kv_num_heads"]) if flat else k[1]
    queries, past = q[-2], site.dims(4)[2] if site.has(4) else 0
    pairs = queries * past + _pairs(queries, k[-2], site.attributes.get("is_causal"))
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
    pairs = batch * queries * keys
    if site.attributes.get("unidirectional"):  # from which corner, nobody tells: the fewest
        pairs = batch * _pairs(min(queries, keys), min(queries, keys), True)
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
