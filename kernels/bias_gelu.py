"""bias_gelu: y = gelu(x + bias), with gelu(v) = v * Phi(v) or its tanh form

x, y: [..., C]; bias: [C]. The middle of a transformer's feed-forward block.

All rows are one long run of values, cut into vectors of 128 bits; a thread takes two of them, a
block apart from each other, so that the loads of a warp are next to each other whatever C is. The
bias comes from the cache. Rows whose size or address does not allow 128-bit accesses take the same
road element by element.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import cuda

from accel.cuda.geometry import cdiv, product, require, require_countable, sizes
from accel.kernels import _gelu
from accel.kernels._device import (
    BYTES,
    LANES,
    aligned,
    f32,
    get,
    i32,
    i64,
    put,
    read,
    stored,
    u32,
    write,
)
from accel.protocols import Case, Launch, Shapes, Signature
from accel.values import Feed, Options

OP = "BiasGelu"
DTYPES = ("float32", "float16", "bfloat16")
VARIANTS: tuple[Options, ...] = ({"approximate": "none"}, {"approximate": "tanh"})
TOLERANCE = {"float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}
THREADS = 256  # of a block
VECTORS = 2  # of a thread


def signature(dtype: str, baked: Options) -> Signature:
    """x, bias | rows, columns | y."""
    return Signature((("x", dtype), ("bias", dtype)), ("rows", "columns"), (("y", dtype),))


def output_shapes(shapes: Shapes, baked: Options) -> Shapes:
    """As large as x."""
    return {"y": shapes["x"]}


def launch(shapes: Shapes, dtype: str, baked: Options) -> Launch:
    """As many blocks as the values fill.

    Raises UsageError for a bias that does not fit x, and for 2^32 vectors of 128 bits or more."""
    *leading, columns = sizes("bias_gelu", shapes, "x")
    rows = product(leading)
    require("bias_gelu", shapes, bias=(columns,))
    values = rows * columns
    require_countable("bias_gelu", values, LANES[dtype])
    of_block = THREADS * VECTORS * LANES[dtype]
    return Launch((cdiv(values, of_block), 1, 1), (THREADS, 1, 1), (rows, columns))


def reference(inputs: Feed, baked: Options) -> dict[str, Any]:
    """float64 throughout."""
    s = inputs["x"].astype(np.float64) + inputs["bias"].astype(np.float64)
    return {"y": _gelu.tanh_form(s) if baked["approximate"] == "tanh" else _gelu.exact(s)}


def source(dtype: str, baked: Options) -> Any:
    """Block (threads); both vectors of a thread are asked for before the first is worked on."""
    lanes = LANES[dtype]
    held_values = VECTORS * lanes
    activate = _gelu.gelu_tanh if baked["approximate"] == "tanh" else _gelu.gelu

    def bias_gelu(x, bias, rows, columns, y):  # type: ignore[no-untyped-def]
        total = i64(rows) * i64(columns)
        first = i64(cuda.blockIdx.x) * i64(THREADS * held_values)
        thread = i32(cuda.threadIdx.x)
        if columns % lanes == 0 and aligned(x) and aligned(bias) and aligned(y):
            held = cuda.local.array(held_values, f32)
            at = first + thread * i32(lanes)
            for v in range(VECTORS):
                i = at + i32(v * THREADS * lanes)
                if i < total:
                    a = read(x, i)
                    for k in range(lanes):
                        held[v * lanes + k] = a[k]
            for v in range(VECTORS):
                i = at + i32(v * THREADS * lanes)
                if i < total:
                    # vectors are counted in 32 bits: a remainder of 64 would cost more than the rest
                    j = u32(i // lanes) % (u32(columns) // u32(lanes)) * u32(lanes)
                    b = read(bias, j)
                    for k in range(lanes):
                        held[v * lanes + k] = activate(held[v * lanes + k] + b[k])
                    write(y, i, held, v * lanes)
        else:
            for k in range(held_values):
                i = first + thread + i32(k * THREADS)
                if i < total:
                    put(y, i, activate(get(x, i) + get(bias, i % columns)))

    return bias_gelu


def function(opset: int) -> Any:
    """Add, then Gelu with the node's approximate; below opset 20, which has no Gelu and no
    attribute that could choose, the exact form as exporters write it, in float32: constants of the
    input's own dtype would be casts, which ONNX Runtime folds in a function and not outside of one."""
    from onnx import AttributeProto, TensorProto, helper

    if opset >= _gelu.NATIVE:
        gelu = helper.make_node("Gelu", ["s"], ["y"])
        gelu.attribute.append(
            AttributeProto(
                name="approximate", ref_attr_name="approximate", type=AttributeProto.STRING
            )
        )
        nodes = [helper.make_node("Add", ["x", "bias"], ["s"]), gelu]
    else:
        nodes = [
            helper.make_node("Cast", ["x"], ["x_32"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["bias"], ["bias_32"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["x_32", "bias_32"], ["s"]),
            *_gelu.written_out("s", "y_32"),
            helper.make_node("CastLike", ["y_32", "x"], ["y"]),
        ]
    return helper.make_function(
        "accel.kernels",
        OP,
        ["x", "bias"],
        ["y"],
        nodes,
        [helper.make_opsetid("", opset)],
        attributes=["approximate"],
    )


def rules() -> tuple[Any, ...]:
    """Add of a bias -> Gelu, native or written out; every Gelu and Erf is a site."""
    from accel.kernels import _swap_bias_gelu

    return _swap_bias_gelu.RULES


def cases(dtype: str) -> Iterable[Case]:
    """Both forms: odd and even rows, one value, both tails, infinity and NaN, no alignment."""
    for baked in VARIANTS:
        form = baked["approximate"]
        yield Case(f"{form}: MiniLM's row", _draw(dtype, (1, 2, 1536)), baked)
        yield Case(f"{form}: one value", _draw(dtype, (1, 1)), baked)
        yield Case(f"{form}: odd row", _draw(dtype, (5, 77)), baked)
        yield Case(f"{form}: a vector and no more", _draw(dtype, (8,)), baked)
        yield Case(f"{form}: not aligned", _draw(dtype, (3, 128)), baked, offset=1)
        tails = _draw(dtype, (1, 512))
        tails["x"][:] = stored(np.linspace(-12, 12, 512), dtype)
        yield Case(f"{form}: both tails", tails, baked)
        far = _draw(dtype, (2, 64))
        far["x"][0, :8] = stored([6e4, -6e4, 300, -300, np.nan, np.inf, 0, -0.0], dtype)
        yield Case(f"{form}: far values, infinity, NaN", far, baked)


def _draw(dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    draw = np.random.default_rng(math.prod(shape))
    return {
        "x": stored(2 * draw.normal(size=shape), dtype),
        "bias": stored(draw.normal(size=shape[-1:]), dtype),
    }


def moved_bytes(shapes: Shapes, dtype: str, baked: Options) -> int:
    """x in, y out, the bias once."""
    return int((2 * math.prod(shapes["x"]) + shapes["x"][-1]) * BYTES[dtype])
