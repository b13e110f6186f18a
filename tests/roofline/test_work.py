"""Operations and bytes, each derived by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from accel import roofline
from accel.roofline import NodeWork

Write = Callable[..., Path]
Dims = tuple[int, ...]


def node(path: Path, name: str, **sizes: int) -> NodeWork:
    """The work of one node, by the name of its first output."""
    return next(n for n in roofline.work(path, sizes).nodes if n.name == name)


def body(nodes: str, ports: str, more: str = "", opset: int = 17, domains: str = "") -> str:
    """A model's text."""
    imports = f'"": {opset}{domains}'
    return f"<ir_version: 10, opset_import: [{imports}]> g {ports} {more} {{ {nodes} }}"


def test_a_grouped_convolution(write: Write) -> None:
    """8 channels in 4 groups: a kernel sees 2 x 3 x 3 values, 18 products; stride 2 halves the side.

    y: 2 x 16 x 4 x 4 = 512 elements; each 18 products, 18 sums and the bias: 512 x 37 = 18,944.
    Bytes: x 2 x 8 x 64 x 4 = 4,096; w 16 x 2 x 9 x 4 = 1,152; b 64; y 2,048."""
    text = body(
        "y = Conv<group = 4, pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, b)",
        "(float[batch, 8, 8, 8] x) => (float[batch, 16, 4, 4] y)",
    )
    path = write(text, w=("float32", 16, 2, 3, 3), b=("float32", 16))
    found = node(path, "y", batch=2)
    assert (found.operations, found.dtype) == (18_944, "float32")
    assert (found.read_bytes, found.written_bytes) == (4096 + 1152 + 64, 2048)
    assert roofline.work(path, {"batch": 2}).least_bytes == 4096 + 1152 + 64 + 2048


INT8_GEMM = """
    q = QuantizeLinear(x, sx, zx)
    a = DequantizeLinear(q, sx, zx)
    b = DequantizeLinear(w, sw, zw)
    y = Gemm<transB = 1>(a, b, c)
"""


def test_an_int8_gemm_between_dequantize_nodes(write: Write) -> None:
    """[4, 32] by [16, 32] transposed, and a bias: 64 elements x (2 x 32 + 1) = 4,160, in int8.

    It reads q, 4 x 32 bytes, w, 16 x 32 bytes, and c, 64; the two DequantizeLinear do nothing. What
    is left in float32 is QuantizeLinear: three operations for each of 128 elements."""
    text = body(
        INT8_GEMM,
        "(float[n, 32] x) => (float[n, 16] y)",
        "<float sx = {0.1}, int8 zx = {0}, float sw = {0.1}, int8 zw = {0}>",
    )
    path = write(text, w=("int8", 16, 32), c=("float32", 16))
    found = node(path, "y", n=4)
    assert (found.operations, found.dtype) == (4160, "int8")
    assert (found.read_bytes, found.written_bytes) == (128 + 512 + 64, 256)
    assert node(path, "a", n=4).operations == node(path, "a", n=4).read_bytes == 0
    work = roofline.work(path, {"n": 4})
    assert work.operations == {"float32": 3 * 128, "int8": 4160}
    assert work.least_bytes == (512 + 4 + 1) + (512 + 64) + 256  # x, sx, zx; w, c; y


def test_int8_weights_of_a_float_product_stay_float(write: Write) -> None:
    """Only the weight is dequantized: the product is float32, its bytes are the weight's int8."""
    nodes = "b = DequantizeLinear(w, s)  y = MatMul(x, b)"
    text = body(nodes, "(float[2, 8] x) => (float[2, 6] y)", "<float s = {0.1}>")
    found = node(write(text, w=("int8", 8, 6)), "y")
    assert (found.operations, found.dtype) == (2 * 2 * 6 * 8, "float32")
    assert found.read_bytes == 2 * 8 * 4 + 8 * 6


ATTENTION = body(
    "y = Attention<q_num_heads = 4, kv_num_heads = 2, is_causal = {causal}>(q, k, v)",
    "(float16[B, S, 64] q, float16[B, L, 32] k, float16[B, L, 32] v) => (float16[B, S, 64] y)",
    opset=23,
)


TRANSPOSED = body(
    "f = DequantizeLinear(w, sw, zw) t = Transpose<perm = [1, 0]>(f) y = MatMul(x, t)",
    "(float[n, 8] x) => (float[n, 6] y)",
    "<float sw = {0.1}, int8 zw = {0}>",
)


def test_an_int8_weight_behind_a_transpose_is_read_as_int8(write: Write) -> None:
    """[6, 8] turned: w 48 bytes and not 192, x 2 x 8 x 4 = 64, y 2 x 6 x 4 = 48. What the run itself turns
    moves: a Transpose of x is read where it lies."""
    path = write(TRANSPOSED, w=("int8", 6, 8))
    assert node(path, "y", n=2).read_bytes == 48 + 64
    assert roofline.work(path, {"n": 2}).least_bytes == 48 + 64 + 48
    turned = write(
        body(
            "t = Transpose<perm = [1, 0]>(x) y = MatMul(t, w)",
            "(float[8, n] x) => (float[n, 6] y)",
        ),
        w=("float32", 8, 6),
    )
    assert node(turned, "t", n=2).written_bytes == 64


def test_attention(write: Write) -> None:
    """4 heads of 16: a pair of query and key takes 2 x 16, a softmax of 5, and 2 x 16 again.

    B = 2, S = 3, L = 5: 2 x 15 pairs x 4 heads x 69 = 8,280. Bytes, 2 an element: q and y
    2 x 3 x 64 each, k and v 2 x 5 x 32 each."""
    found = node(write(ATTENTION.replace("{causal}", "0")), "y", B=2, S=3, L=5)
    assert (found.operations, found.dtype) == (8280, "float16")
    assert found.read_bytes == 2 * (2 * 3 * 64 + 2 * 2 * 5 * 32)
    assert found.written_bytes == 2 * 2 * 3 * 64


def test_causal_attention_skips_what_is_masked(write: Write) -> None:
    """The i-th of 6 queries sees i keys: 21 pairs, not 36."""
    found = node(write(ATTENTION.replace("{causal}", "1")), "y", B=1, S=6, L=6)
    assert found.operations == 21 * 4 * 69


@pytest.mark.parametrize(("queries", "keys", "pairs"), [(3, 5, 6), (5, 3, 12), (1, 4, 1)])
def test_a_causal_mask_begins_at_its_upper_left(
    write: Write, queries: int, keys: int, pairs: int
) -> None:
    """Of other keys than queries, the i-th query sees the first i, and never more than there are."""
    found = node(write(ATTENTION.replace("{causal}", "1")), "y", B=1, S=queries, L=keys)
    assert found.operations == pairs * 4 * 69


def test_what_is_past_is_seen_by_every_query(write: Write) -> None:
    """Three queries, a past of 4 and three keys beside them: 12 pairs and 6."""
    text = body(
        "y, pk, pv = Attention<is_causal = 1>(q, k, k, , past, past)",
        "(float[1, 2, 3, 8] q, float[1, 2, 3, 8] k, float[1, 2, 4, 8] past)"
        " => (float[a, b, c, d] y)",
        opset=23,
    )
    assert node(write(text), "y").operations == 18 * 2 * 37


FUSED = {  # ONNX Runtime's: x [1, 6, 8] by w [8, 24] for 2 heads of 4, where it takes them
    "Attention": ("x, w, b", "", 2 * 6 * 8 * 24),
    "QAttention": ("q, qw, b, s, s, , z, z", "q = Cast<to = 2>(x) qw = Cast<to = 3>(w)", 2 * 6 * 8 * 24),
    "MultiHeadAttention": ("x, x, x", "", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_fused_attention_skips_what_is_masked(write: Write, name: str) -> None:
    """unidirectional: 21 pairs and not 36, of 2 heads at 2 x 4 + 5 + 2 x 4 each; the product is whole."""
    given, before, into = FUSED[name]
    for causal, pairs in ((0, 36), (1, 21)):
        text = body(
            f"{before} y = com.microsoft.{name}<num_heads = 2, unidirectional = {causal}>({given})",
            "(float[1, S, 8] x) => (float[a, b, c] y)",
            "<float s = {0.1}, uint8 z = {0}>",
            domains=', "com.microsoft": 1',
        )
        path = write(text, w=("float32", 8, 24), b=("float32", 24))
        assert node(path, "y", S=6).operations == into + pairs * 2 * 21


def test_queries_on_other_keys_see_the_fewest(write: Write) -> None:
    """Three queries and five keys: which of them are masked, nobody tells here, and 6 pairs are left."""
    text = body(
        "y = com.microsoft.MultiHeadAttention<num_heads = 2, unidirectional = 1>(x, k, k)",
        "(float[1, 3, 8] x, float[1, 5, 8] k) => (float[a, b, c] y)",
        domains=', "com.microsoft": 1',
    )
    assert node(write(text), "y").operations == 6 * 2 * 21


@pytest.mark.parametrize(
    ("equation", "x", "z", "operations"),
    [
        ("bhd,hd->bhd", (2, 3, 4), (3, 4), 24),  # as Mul
        ("i,j->ij", (3,), (4,), 12),
        ("bij,bjk->bik", (2, 3, 4), (2, 4, 5), 2 * 120),
        ("ij,jk", (3, 4), (4, 5), 2 * 60),  # as MatMul: what occurs twice is summed
        ("bij,bk->bk", (2, 3, 4), (2, 5), 24 + 10),  # i and j are summed before
        ("bij,bj->b", (2, 3, 4), (2, 4), 24 + 2 * 8),
        ("ij,jk->ik", (3, 1), (1, 5), 15),  # nothing to sum
        ("ij->ji", (3, 4), None, 0),  # as Transpose
        ("ii->i", (3, 3), None, 0),
        ("ij->i", (3, 4), None, 12),  # as ReduceSum
    ],
)
def test_einsum_counts_no_more_than_has_to_be(
    write: Write, equation: str, x: Dims, z: Dims | None, operations: int
) -> None:
    """A sum where an index is summed, and a product where two values meet: else neither."""
    given = [(name, list(dims)) for name, dims in (("x", x), ("z", z)) if dims is not None]
    after = equation.partition("->")[2] if "->" in equation else "ik"
    ports = ", ".join(f"float{dims} {name}" for name, dims in given)
    made = f"float[{', '.join(after)}] y" if after else "float y"
    words = ", ".join(name for name, _ in given)
    text = body(f'y = Einsum<equation = "{equation}">({words})', f"({ports}) => ({made})")
    assert node(write(text), "y").operations == operations


@pytest.mark.parametrize(
    ("nodes", "ports", "more", "weights", "operations"),
    [
        # 2 x 3 rows of 8 by 8 x 5
        ("y = MatMul(x, w)", "(float[2, 3, 8] x) => (float[a, b, c] y)", "", {"w": (8, 5)}, 2 * 30 * 8),
        # every one of 1 x 4 x 3 x 3 inputs meets 2 x 2 x 2 weights (8 out in 4 groups); 8 x 6 x 6 biases
        (
            "y = ConvTranspose<group = 4, strides = [2, 2]>(x, w, b)",
            "(float[1, 4, 3, 3] x) => (float[a, b, c, d] y)",
            "",
            {"w": (4, 2, 2, 2), "b": (8,)},
            2 * 36 * 8 + 288,
        ),
        # 7 steps of 2 rows: weights of 4 gates x 5 hidden by 3 inputs and 5 hidden, both ways
        (
            'y = LSTM<hidden_size = 5, direction = "bidirectional">(x, w, r)',
            "(float[7, 2, 3] x) => (float[a, b, c, d] y)",
            "",
            {"w": (2, 20, 3), "r": (2, 20, 5)},
            2 * 14 * (120 + 200),
        ),
        # b 2, i 3, j 4, k 5: all combinations
        (
            'y = Einsum<equation = "bij,bjk->bik">(x, z)',
            "(float[2, 3, 4] x, float[2, 4, 5] z) => (float[a, b, c] y)",
            "",
            {},
            2 * 2 * 3 * 4 * 5,
        ),
        ("y = LayerNormalization(x, w)", "(float[4, 8] x) => (float[4, 8] y)", "", {"w": (8,)}, 7 * 32),
        ("y = Softmax(x)", "(float[4, 8] x) => (float[4, 8] y)", "", {}, 5 * 32),
        ("y = ReduceMean(x)", "(float[4, 8] x) => (float[a, b] y)", "", {}, 32),
        # 2 x 2 windows of stride 2
        (
            "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)",
            "(float[1, 3, 8, 8] x) => (float[a, b, c, d] y)",
            "",
            {},
            48 * 4,
        ),
        # twice as high and wide, by a line between neighbours: a + t (b - a)
        (
            'y = Resize<mode = "linear">(x, , s)',
            "(float[1, 1, 4, 4] x) => (float[a, b, c, d] y)",
            "<float[4] s = {1, 1, 2, 2}>",
            {},
            64 * 3,
        ),
        ("y = Transpose(x)", "(float[4, 8] x) => (float[8, 4] y)", "", {}, 0),
    ],
    ids=lambda value: value.split("(")[0].split()[2] if isinstance(value, str) and "= " in value else "",
)  # fmt: skip
def test_operations(
    write: Write,
    nodes: str,
    ports: str,
    more: str,
    weights: dict[str, tuple[int, ...]],
    operations: int,
) -> None:
    """One operator each, counted by hand in the comment beside it."""
    path = write(body(nodes, ports, more), **{k: ("float32", *v) for k, v in weights.items()})
    assert node(path, "y").operations == operations


def test_a_lookup_reads_only_its_rows(write: Write) -> None:
    """3 rows of a table of 1,000: 3 x 16 x 4 bytes and the ids, never the table's 64,000."""
    text = body("y = Gather(w, ids)", "(int64[3] ids) => (float[3, 16] y)")
    path = write(text, w=("float32", 1000, 16))
    assert node(path, "y").read_bytes == 192 + 24
    assert roofline.work(path, {}).least_bytes == 192 + 24 + 192


def test_what_is_made_of_weights_alone_costs_nothing(write: Write) -> None:
    """Engines fold it when they build: the node is not listed, its weight is read once."""
    text = body("t = Transpose(w)  y = MatMul(x, t)", "(float[2, 8] x) => (float[2, 6] y)")
    path = write(text, w=("float32", 6, 8))
    work = roofline.work(path, {})
    assert [n.operator for n in work.nodes] == ["MatMul"]
    assert work.least_bytes == 64 + 192 + 48


def test_a_packed_int4_product(write: Write) -> None:
    """MatMulNBits: 3 x 64 by 32 columns; w has half a byte a weight, and a float32 scale for 32."""
    text = body(
        "y = com.microsoft.MatMulNBits<K = 64, N = 32, bits = 4, block_size = 32, accuracy_level = 4>"
        "(x, w, s)",
        "(float[n, 64] x) => (float[n, 32] y)",
        domains=', "com.microsoft": 1',
    )
    path = write(text, w=("uint8", 32, 2, 16), s=("float32", 64))
    found = node(path, "y", n=3)
    assert (found.operations, found.dtype) == (2 * 3 * 64 * 32, "int8")  # it asks for int8: level 4
    assert found.read_bytes == 3 * 64 * 4 + 32 * 32 + 256
    assert found.written_bytes == 3 * 32 * 4


def test_a_cast_graph_computes_in_what_it_was_cast_to(write: Write) -> None:
    """The product between casts is bfloat16, whatever the ports are."""
    nodes = "a = Cast<to = 16>(x)  b = MatMul(a, w)  y = Cast<to = 1>(b)"
    text = body(nodes, "(float[2, 8] x) => (float[2, 6] y)")
    found = node(write(text, w=("bfloat16", 8, 6)), "b")
    assert (found.dtype, found.read_bytes) == ("bfloat16", 2 * (16 + 48))


def test_a_hint_narrows_what_lies_between_the_ports(write: Write) -> None:
    """bf16 by a runtime's hint: the same graph, weights of two bytes; x and y stay four."""
    text = body("a = MatMul(x, w)  y = MatMul(a, v)", "(float[2, 8] x) => (float[2, 6] y)")
    path = write(text, w=("float32", 8, 8), v=("float32", 8, 6))
    work = roofline.work(path, {}, float32_as="bfloat16")
    assert work.operations == {"bfloat16": 2 * 2 * 8 * 8 + 2 * 2 * 6 * 8}
    assert work.least_bytes == 64 + 2 * 64 + 2 * 48 + 48
    assert work.nodes[0].written_bytes == 2 * 16


def test_an_open_axis_may_be_written_as_minus_one(write: Write) -> None:
    """As some exporters do: it is bound like any other, and the work is that of its size."""
    text = body("y = MatMul(x, w)", "(float[n, 8] x) => (float[n, 6] y)")
    path = write(text, w=("float32", 8, 6))
    want = roofline.work(path, {"n": 3})
    proto = onnx.load(path)
    for port in (*proto.graph.input, *proto.graph.output):
        if port.name in "xy":
            port.type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(proto, path)
    assert roofline.work(path, {"x[0]": 3}) == want


UNKNOWN = """
    more = Loop (n, yes, x) <
      body = step (int64 i, bool on, float[2] a) => (bool again, float[2] b)
      { again = Identity(on)  b = Exp(a) }
    >
    y = Relu(more)
"""


def test_what_cannot_be_told_is_listed(write: Write) -> None:
    """How often a loop runs is data, and so is the size of what it gives: both nodes have a reason."""
    text = body(UNKNOWN, "(int64 n, float[2] x) => (float[2] y)", "<bool yes = {1}>")
    found = node(write(text), "more")
    assert found.operator == "Loop"
    assert "how often its body runs" in found.unknown
    assert node(write(text), "y").unknown == "the size of 'more' is not known"


def test_an_operator_that_nobody_knows_is_unknown(write: Write) -> None:
    """A stranger's operator has no cost here, and what follows it no size."""
    text = body(
        "a = strange.Thing(x)  y = Relu(a)",
        "(float[2] x) => (float[2] y)",
        domains=', "strange": 1',
    )
    path = write(text)
    assert node(path, "a").operator == "strange.Thing"
    assert "no table" in node(path, "a").unknown


def test_the_cheaper_branch_counts(write: Write) -> None:
    """An If runs one of its branches: at least the one with fewer operations."""
    text = body(
        "y = If (which) < then_branch = t () => (float[64] a) { a = Neg(x) },"
        " else_branch = e () => (float[64] b) { m = Exp(x)  b = Softmax(m) } >",
        "(bool which, float[64] x) => (float[64] y)",
    )
    assert node(write(text), "y").operations == 64


def test_a_kernel_is_one_node_with_the_operations_of_its_body(write: Write) -> None:
    """bias_gelu on [2, 5, 8]: an addition and 5 for the exact GELU an element; x, bias in, y out."""
    import onnx

    from accel import catalog

    text = body(
        "y = accel.kernels.BiasGelu(x, b)",
        "(float[2, n, 8] x) => (float[2, n, 8] y)",
        opset=23,
        domains=', "accel.kernels": 1',
    )
    path = write(text, b=("float32", 8))
    made = onnx.load(path)
    made.functions.append(catalog.load("kernels", "bias_gelu").function(23))
    onnx.save(made, path)
    found = node(path, "y", n=5)
    assert found.operator == "accel.kernels.BiasGelu"
    assert (found.read_bytes, found.written_bytes) == (320 + 32, 320)
    assert found.operations == 80 * 6


def test_an_int4_kernel_does_the_product_alone(write: Write) -> None:
    """2 x 8 x 64 x 256 in float16, as in MatMulNBits: unpacking depends on weights alone. What is above it
    are the body's casts of x and of y."""
    import onnx

    from accel import catalog

    text = body(
        "y = accel.kernels.MatMulDequantInt4<group = 128>(x, p, s, z)",
        "(float16[8, 256] x) => (float16[8, 64] y)",
        opset=23,
        domains=', "accel.kernels": 1',
    )
    path = write(text, p=("uint8", 64, 128), s=("float16", 64, 2), z=("uint8", 64, 1))
    made = onnx.load(path)
    made.functions.append(catalog.load("kernels", "matmul_dequant_int4").function(23))
    onnx.save(made, path)
    found, product = node(path, "y"), 2 * 8 * 64 * 256
    assert found.dtype == "float16"
    assert product <= found.operations <= 1.02 * product


@pytest.mark.parametrize(
    ("dtype", "ends", "size_bytes"),
    [("FLOAT8E4M3FN", "float8", 1), ("FLOAT4E2M1", "float4", 0.5), ("INT4", "int4", 0.5)],
)
def test_narrow_types_compute_in_themselves(
    tmp_path: Path, dtype: str, ends: str, size_bytes: float
) -> None:
    """A product of two dequantized values of one narrow type; they lie packed in memory."""
    import onnx
    from onnx import helper

    kind = onnx.TensorProto.DataType.Value(dtype)
    ports = [helper.make_tensor_value_info(n, kind, [8, 8]) for n in "ab"]
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [8, 8])
    scale = helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [0.5])
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "s"], ["fa"]),
        helper.make_node("DequantizeLinear", ["b", "s"], ["fb"]),
        helper.make_node("MatMul", ["fa", "fb"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", ports, [out], [scale])
    imports = [helper.make_opsetid("", 23)]
    onnx.save(helper.make_model(graph, opset_imports=imports), tmp_path / "m.onnx")
    found = node(tmp_path / "m.onnx", "y")
    assert (found.dtype, found.operations) == (ends, 2 * 8 * 8 * 8)
    assert found.read_bytes == 2 * 64 * size_bytes
