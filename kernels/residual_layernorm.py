"""residual_layernorm: s = x + residual,  y = (s - mean(s)) / sqrt(var(s) + epsilon) * gamma + beta

x, y, s: [..., C]; residual: [..., C], or fewer rows that repeat over the leading axes; gamma, beta:
[C]. Mean and variance run over the last axis. Transformers need both results: y goes on, s is the
next residual (pre-norm) or is dropped (post-norm).

Each row is read once and held in registers, 16 values a thread, so a block row has C / 16 threads
or more, 32 to 512 of them: warps add up by shuffles, several warps through shared memory. Rows
whose size or address does not allow 128-bit accesses take the same road element by element.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import cuda

from accel.cuda.geometry import WARP, cdiv, product, require, sizes
from accel.errors import UsageError
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
    warp_sum,
    write,
)
from accel.protocols import Case, Launch, Shapes, Signature
from accel.values import Feed, Options

OP = "ResidualLayerNorm"
DTYPES = ("float32", "float16", "bfloat16")
EPSILONS = (1e-12, 1e-5, 1e-6)  # BERT; GPT-2, Llama and most others; ViT
VARIANTS: tuple[Options, ...] = ({"epsilon": 1e-12},)
TOLERANCE = {"float32": 4e-6, "float16": 2e-3, "bfloat16": 1.6e-2}
HELD = 16  # values of a row that one thread keeps in registers
WIDEST_BLOCK = 512  # threads: 1,024 of them would need more registers than Turing has for a block
LONGEST = WIDEST_BLOCK * HELD
THREADS = 128  # of a block, where a row needs fewer


def signature(dtype: str, baked: Options) -> Signature:
    """x, residual, gamma, beta | rows, columns, residual rows | y, s."""
    inputs = ("x", "residual", "gamma", "beta")
    return Signature(
        tuple((name, dtype) for name in inputs),
        ("rows", "columns", "residual_rows"),
        (("y", dtype), ("s", dtype)),
    )


def output_shapes(shapes: Shapes, baked: Options) -> Shapes:
    """Both are as large as x."""
    return {"y": shapes["x"], "s": shapes["x"]}


def launch(shapes: Shapes, dtype: str, baked: Options) -> Launch:
    """Threads along a row, then rows, of a block; as many blocks as the rows fill.

    Raises UsageError for a row longer than 8,192, and for other inputs that do not fit x."""
    columns = sizes("residual_layernorm", shapes, "x")[-1]
    if columns > LONGEST:
        raise UsageError(f"residual_layernorm takes rows of up to {LONGEST}, not {columns}.")
    size = (columns,)
    repeated = _without_ones(sizes("residual_layernorm", shapes, "residual"))
    own = tuple(shapes["x"])
    require(
        "residual_layernorm",
        {**shapes, "residual": repeated},
        gamma=size,
        beta=size,
        residual=own[max(0, len(own) - max(1, len(repeated))) :],
    )
    along = WARP
    while along * HELD < columns:
        along *= 2
    beside = max(1, THREADS // along)
    rows, residual_rows = product(shapes["x"][:-1]), product(shapes["residual"][:-1])
    return Launch((cdiv(rows, beside), 1, 1), (along, beside, 1), (rows, columns, residual_rows))


def _without_ones(found: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leading ones say nothing of a tensor that repeats."""
    while len(found) > 1 and isinstance(found[0], int) and found[0] == 1:
        found = found[1:]
    return found


def reference(inputs: Feed, baked: Options) -> dict[str, Any]:
    """float64 throughout; the variance is of the sum as it is, not as it is stored."""
    x, residual, gamma, beta = (
        inputs[n].astype(np.float64) for n in ("x", "residual", "gamma", "beta")
    )
    s = x + residual
    centred = s - s.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return {"y": centred / np.sqrt(variance + baked["epsilon"]) * gamma + beta, "s": s}


def source(dtype: str, baked: Options) -> Any:
    """Block (threads of a row, rows); every thread stays until the end, for the barriers."""
    epsilon, lanes = baked["epsilon"], LANES[dtype]
    vectors = HELD // lanes
    warps = WIDEST_BLOCK // WARP
    partials = 2 * warps  # the two sums have a half each, so that neither waits for the other

    def residual_layernorm(x, residual, gamma, beta, rows, columns, residual_rows, y, s):  # type: ignore[no-untyped-def]
        along = i32(cuda.blockDim.x)
        thread = i32(cuda.threadIdx.x)
        row = i32(cuda.blockIdx.x) * i32(cuda.blockDim.y) + i32(cuda.threadIdx.y)
        inside = row < rows
        start = i64(row) * i64(columns)
        other = i64(row % residual_rows) * i64(columns)
        wide = columns % lanes == 0 and aligned(x) and aligned(residual)
        wide = wide and aligned(y) and aligned(s) and aligned(gamma) and aligned(beta)
        held = cuda.local.array(HELD, f32)
        partial = cuda.shared.array(partials, f32)

        total = f32(0)
        for k in range(HELD):
            held[k] = f32(0)
        if inside and wide:
            for v in range(vectors):
                j = (i32(v) * along + thread) * i32(lanes)
                if j < columns:
                    a = read(x, start + j)
                    b = read(residual, other + j)
                    for k in range(lanes):
                        held[v * lanes + k] = a[k] + b[k]
                        total += a[k] + b[k]
        elif inside:
            for k in range(HELD):
                j = i32(k) * along + thread
                if j < columns:
                    held[k] = get(x, start + j) + get(residual, other + j)
                    total += held[k]
        total = warp_sum(total)
        warp = (i32(cuda.threadIdx.y) * along + thread) // i32(WARP)
        of_row = along // i32(WARP)
        first = warp - warp % of_row
        if of_row > i32(1):
            partial[warp] = total
            cuda.syncthreads()
            total = f32(0)
            for w in range(of_row):
                total += partial[first + w]
        mean = total / f32(columns)

        squares = f32(0)
        if wide:
            for v in range(vectors):
                if (i32(v) * along + thread) * i32(lanes) < columns:
                    for k in range(lanes):
                        d = held[v * lanes + k] - mean
                        squares += d * d
        else:
            for k in range(HELD):
                if i32(k) * along + thread < columns:
                    d = held[k] - mean
                    squares += d * d
        squares = warp_sum(squares)
        if of_row > i32(1):
            partial[warps + warp] = squares
            cuda.syncthreads()
            squares = f32(0)
            for w in range(of_row):
                squares += partial[warps + first + w]
        scale = f32(1) / f32(math.sqrt(squares / f32(columns) + f32(epsilon)))

        if inside and wide:
            for v in range(vectors):
                j = (i32(v) * along + thread) * i32(lanes)
                if j < columns:
                    g = read(gamma, j)
                    b = read(beta, j)
                    at = v * lanes
                    write(s, start + j, held, at)
                    for k in range(lanes):
                        held[at + k] = (held[at + k] - mean) * scale * g[k] + b[k]
                    write(y, start + j, held, at)
        elif inside:
            for k in range(HELD):
                j = i32(k) * along + thread
                if j < columns:
                    put(s, start + j, held[k])
                    put(y, start + j, (held[k] - mean) * scale * get(gamma, j) + get(beta, j))

    return residual_layernorm


def function(opset: int) -> Any:
    """Add, then LayerNormalization with the node's epsilon."""
    from onnx import AttributeProto, helper

    norm = helper.make_node("LayerNormalization", ["s", "gamma", "beta"], ["y"], axis=-1)
    norm.attribute.append(
        AttributeProto(name="epsilon", ref_attr_name="epsilon", type=AttributeProto.FLOAT)
    )
    return helper.make_function(
        "accel.kernels",
        OP,
        ["x", "residual", "gamma", "beta"],
        ["y", "s"],
        [helper.make_node("Add", ["x", "residual"], ["s"]), norm],
        [helper.make_opsetid("", opset)],
        attributes=["epsilon"],
    )


def rules() -> tuple[Any, ...]:
    """Add -> LayerNormalization; every LayerNormalization is a site."""
    from accel.kernels import _swap_residual_layernorm

    return _swap_residual_layernorm.RULES


def cases(dtype: str) -> Iterable[Case]:
    """Odd and even rows, one warp and several, outliers, a constant row, NaN, repeats, no alignment."""
    yield Case("MiniLM's row", _draw(dtype, (2, 3, 384)))
    yield Case("one row, one column", _draw(dtype, (1, 1)))
    yield Case("odd row", _draw(dtype, (5, 77)))
    yield Case("a row over four warps", _draw(dtype, (2, 1536)))
    yield Case("the longest row", _draw(dtype, (1, LONGEST)))
    yield Case("odd, over several warps", _draw(dtype, (3, 1001)))
    yield Case("residual repeats over the batch", _draw(dtype, (3, 4, 64), residual=(1, 4, 64)))
    yield Case("not aligned", _draw(dtype, (3, 128)), offset=1)
    outliers = _draw(dtype, (4, 256))
    outliers["x"][:, ::50] *= 300
    yield Case("outliers", outliers)
    flat = _draw(dtype, (2, 96), constant=3.0)
    yield Case("constant rows: epsilon alone", flat)
    broken = _draw(dtype, (3, 96))
    broken["x"][1, 5] = np.nan
    yield Case("NaN in one row stays in it", broken)


def _draw(dtype: str, shape: tuple[int, ...], residual: tuple[int, ...] | None = None, constant: float | None = None) -> dict[str, Any]:  # fmt: skip
    draw = np.random.default_rng(math.prod(shape))

    def normal(size: tuple[int, ...]) -> Any:
        return stored(
            draw.normal(size=size) if constant is None else np.full(size, constant), dtype
        )

    row = shape[-1:]
    return {
        "x": normal(shape),
        "residual": normal(residual or shape),
        "gamma": stored(1 + draw.normal(size=row) / 8, dtype),
        "beta": stored(draw.normal(size=row) / 8, dtype),
    }


def moved_bytes(shapes: Shapes, dtype: str, baked: Options) -> int:
    """x and the residual in, y and s out, gamma and beta once."""
    x, residual = (math.prod(shapes[n]) for n in ("x", "residual"))
    return int((3 * x + residual + 2 * shapes["x"][-1]) * BYTES[dtype])
