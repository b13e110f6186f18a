"""masked_mean_pool_l2: y = p / max(|p|, min_norm),  p = sum(x * mask) / max(sum(mask), min_count)

x: [B, S, C]; mask: [B, S], int64; y: [B, C]. Sums run over the tokens S, |p| is the L2 norm over C. The
head of sentence encoders (Reimers and Gurevych 2019). It keeps to the algebra: a masked token is
multiplied by zero, not left out, so NaN or infinity there makes its sentence NaN.

A sentence is a block, and x is read once. Threads lie along C, 16 sums in each one's registers, and
groups of them take every so many tokens; the groups' sums meet in shared memory, no workspace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import cuda

from accel.cuda.geometry import WARP, require, sizes
from accel.errors import UsageError
from accel.kernels._device import (
    BYTES,
    LANES,
    aligned,
    device,
    f32,
    get,
    i32,
    i64,
    put,
    read,
    stored,
    warp_sum,
)
from accel.protocols import Case, Launch, Shapes, Signature
from accel.values import Feed, Options

OP = "MaskedMeanPoolL2"
DTYPES = ("float32", "float16", "bfloat16")
VARIANTS: tuple[Options, ...] = ({"min_count": 1e-9, "min_norm": 1e-12},)  # sentence-transformers'
TOLERANCE = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}
HELD = 16  # columns whose sums one thread keeps in registers
THREADS = 512  # of a block
WIDEST = THREADS * HELD


def signature(dtype: str, baked: Options) -> Signature:
    """x, mask | tokens, columns | y."""
    return Signature((("x", dtype), ("mask", "int64")), ("tokens", "columns"), (("y", dtype),))


def output_shapes(shapes: Shapes, baked: Options) -> Shapes:
    """One row a sentence."""
    batch, _tokens, columns = shapes["x"]
    return {"y": (batch, columns)}


def launch(shapes: Shapes, dtype: str, baked: Options) -> Launch:
    """Threads along a token, then tokens, of a block; a block a sentence.

    Raises UsageError for a token wider than 8,192 or of no size, and for a mask that does not fit x."""
    batch, tokens, columns = sizes("masked_mean_pool_l2", shapes, "x", 3)
    if not 1 <= columns <= WIDEST:
        raise UsageError(f"masked_mean_pool_l2 takes tokens of 1 to {WIDEST}, not {columns}.")
    require("masked_mean_pool_l2", shapes, mask=(batch, tokens))
    along = WARP
    while along * HELD < columns:
        along *= 2
    return Launch((batch, 1, 1), (along, THREADS // along, 1), (tokens, columns))


def reference(inputs: Feed, baked: Options) -> dict[str, Any]:
    """float64 throughout."""
    x, mask = inputs["x"].astype(np.float64), inputs["mask"].astype(np.float64)
    p = (x * mask[..., None]).sum(1) / np.maximum(mask.sum(1), baked["min_count"])[:, None]
    norm = np.sqrt((p**2).sum(-1, keepdims=True))
    return {"y": p / np.maximum(norm, baked["min_norm"])}


def source(dtype: str, baked: Options) -> Any:
    """Block (threads of a token, tokens side by side); sums k of all threads lie next to each other
    in shared memory, so that no two lanes of a warp meet in a bank."""
    min_count, min_norm, lanes = f32(baked["min_count"]), f32(baked["min_norm"]), LANES[dtype]
    vectors = HELD // lanes
    two = vectors == 2  # tokens at a time: four loads are under way with either kind of vector
    room, warps = THREADS * HELD, THREADS // WARP

    @device
    def column(k, thread, along, wide):  # type: ignore[no-untyped-def]
        """Where sum k of a thread belongs."""
        if wide:
            return (k // i32(lanes) * along + thread) * i32(lanes) + k % i32(lanes)
        return k * along + thread

    def masked_mean_pool_l2(x, mask, tokens, columns, y):  # type: ignore[no-untyped-def]
        along, beside = i32(cuda.blockDim.x), i32(cuda.blockDim.y)
        thread, group = i32(cuda.threadIdx.x), i32(cuda.threadIdx.y)
        own = group * along + thread
        first = i64(cuda.blockIdx.x) * i64(tokens)
        wide = columns % lanes == 0 and aligned(x)
        held = cuda.local.array(HELD, f32)
        sums = cuda.shared.array(room, f32)
        counts = cuda.shared.array(THREADS, f32)
        squares = cuda.shared.array(warps, f32)

        for k in range(HELD):
            held[k] = f32(0)
        count = f32(0)
        t = group
        if wide:
            # threads beyond the row read its end again and keep what they sum to themselves, so no
            # branch comes between the loads
            while two and t + beside < tokens:
                here, there = first + t, first + t + beside
                weight, other = f32(mask[here]), f32(mask[there])
                for v in range(vectors):
                    j = min((i32(v) * along + thread) * i32(lanes), columns - i32(lanes))
                    a = read(x, here * i64(columns) + j)
                    b = read(x, there * i64(columns) + j)
                    for k in range(lanes):
                        held[v * lanes + k] += a[k] * weight
                        held[v * lanes + k] += b[k] * other
                count += weight + other
                t += i32(2) * beside
            while t < tokens:
                weight = f32(mask[first + t])
                for v in range(vectors):
                    j = min((i32(v) * along + thread) * i32(lanes), columns - i32(lanes))
                    a = read(x, (first + t) * i64(columns) + j)
                    for k in range(lanes):
                        held[v * lanes + k] += a[k] * weight
                count += weight
                t += beside
        else:
            for k in range(HELD):
                j = i32(k) * along + thread
                count = f32(0)
                t = group
                while t < tokens:
                    weight = f32(mask[first + t])
                    count += weight
                    if j < columns:
                        held[k] += get(x, (first + t) * i64(columns) + j) * weight
                    t += beside
        for k in range(HELD):
            sums[i32(k * THREADS) + own] = held[k]
        if thread == i32(0):
            counts[group] = count
        cuda.syncthreads()

        count = f32(0)
        for g in range(beside):
            count += counts[g]
        count = max(count, min_count)
        square = f32(0)
        k = group
        while k < i32(HELD):
            p = f32(0)
            for g in range(beside):
                p += sums[k * i32(THREADS) + g * along + thread]
            p = p / count
            if column(k, thread, along, wide) < columns:
                square += p * p
            sums[k * i32(THREADS) + thread] = (
                p  # the place of group 0, which only this thread reads
            )
            k += beside
        square = warp_sum(square)
        if own % i32(WARP) == i32(0):
            squares[own // i32(WARP)] = square
        cuda.syncthreads()

        square = f32(0)
        for w in range(warps):
            square += squares[w]
        norm = f32(math.sqrt(square))
        if norm < min_norm:  # a GPU's max would drop a NaN
            norm = min_norm
        k = group
        while k < i32(HELD):
            j = column(k, thread, along, wide)
            if j < columns:
                at = i64(cuda.blockIdx.x) * i64(columns) + j
                put(y, at, sums[k * i32(THREADS) + thread] / norm)
            k += beside

    return masked_mean_pool_l2


def function(opset: int) -> Any:
    """The sums, their quotient, its norm, their quotient; the clamps are the node's attributes."""
    from onnx import AttributeProto, TensorProto, helper

    def clamp(name: str) -> list[Any]:
        constant = helper.make_node("Constant", [], [f"{name}_32"])
        constant.attribute.append(
            AttributeProto(name="value_float", ref_attr_name=name, type=AttributeProto.FLOAT)
        )
        return [constant, helper.make_node("CastLike", [f"{name}_32", "x"], [name])]

    axes = (("tokens", 1), ("last", -1))
    nodes = [
        helper.make_node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT64, [1], [axis]))
        for name, axis in axes
    ]  # fmt: skip
    nodes += [
        *clamp("min_count"),
        *clamp("min_norm"),
        helper.make_node("CastLike", ["mask", "x"], ["weights"]),
        helper.make_node("Unsqueeze", ["weights", "last"], ["of_token"]),
        helper.make_node("Mul", ["x", "of_token"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "tokens"], ["sum"], keepdims=1),
        helper.make_node("Max", ["sum", "min_count"], ["count"]),
        helper.make_node("Div", ["total", "count"], ["p"]),
        helper.make_node("Mul", ["p", "p"], ["squared"]),
        helper.make_node("ReduceSum", ["squared", "last"], ["square"], keepdims=1),
        helper.make_node("Sqrt", ["square"], ["length"]),
        helper.make_node("Max", ["length", "min_norm"], ["norm"]),
        helper.make_node("Div", ["p", "norm"], ["y"]),
    ]
    return helper.make_function(
        "accel.kernels",
        OP,
        ["x", "mask"],
        ["y"],
        nodes,
        [helper.make_opsetid("", opset)],
        attributes=["min_count", "min_norm"],
    )


def rules() -> tuple[Any, ...]:
    """The pooling head as exporters write it; every ReduceL2 and masked ReduceSum is a site."""
    from accel.kernels import _swap_masked_mean_pool_l2

    return _swap_masked_mean_pool_l2.RULES


def cases(dtype: str) -> Iterable[Case]:
    """Odd and even rows, one token, no token left, more tokens than groups, wide rows, NaN, no alignment."""
    yield Case("MiniLM's row", _draw(dtype, (1, 37, 384)))
    yield Case("one sentence, one token, one column", _draw(dtype, (1, 1, 1)))
    yield Case("odd row", _draw(dtype, (1, 20, 77)))
    yield Case("more tokens than groups", _draw(dtype, (1, 50, 40)))
    yield Case("two warps a token", _draw(dtype, (1, 9, 768)))
    yield Case("one group", _draw(dtype, (1, 3, 8000)))
    yield Case("not aligned", _draw(dtype, (1, 4, 128)), offset=1)
    empty = _draw(dtype, (1, 4, 64))
    empty["mask"][0] = 0
    yield Case("no token left: zeros, not NaN", empty)
    large = _draw(dtype, (1, 40, 64))
    large["x"][:] = stored(np.sign(large["x"].astype(np.float32)) * 6e4, dtype)
    yield Case("values near float16's largest", large)
    broken = _draw(dtype, (2, 4, 64))
    broken["x"][0, 3, 5] = np.nan
    broken["mask"][:, 3] = 0
    yield Case("NaN at a masked token, as the graph has it", broken)


def _draw(dtype: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    draw = np.random.default_rng(math.prod(shape))
    mask = (draw.random(shape[:2]) < 0.7).astype(np.int64)
    mask[:, 0] = 1
    return {"x": stored(draw.normal(size=shape), dtype), "mask": mask}


def moved_bytes(shapes: Shapes, dtype: str, baked: Options) -> int:
    """x and the mask in, y out."""
    batch, _tokens, columns = shapes["x"]
    elements = math.prod(shapes["x"]) + batch * columns
    return int(elements * BYTES[dtype] + math.prod(shapes["mask"]) * BYTES["int64"])
