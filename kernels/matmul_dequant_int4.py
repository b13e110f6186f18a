"""matmul_dequant_int4: y[m, n] = sum_k x[m, k] * (q[n, k] - zero[n, k / group]) * scale[n, k / group]

x: [..., K]; packed: [N, K / 2] uint8, two q of 0..15 a byte, the even k in its low bits; scales:
[N, K / group]; zero_points: [N, ceil(K / group / 2)] uint8, packed alike (8 where int4 is symmetric);
y: [..., N]. It is the layout of ONNX Runtime's MatMulNBits (com.microsoft, bits=4), a column of the
weight being contiguous: what decoding a language model reads once a token, so memory is the limit.

A warp takes 16 columns and 128 k at a time: lane 4 g + t reads 128 bits, 32 weights, of columns g and
g + 8, for k of the t-th quarter, while those of the step before are in use. The tensor core is given
the weights as its rows and x as its 8 columns, so that it adds up what the four quarters have. Where
they are of two or four groups, whose scales differ, its columns are 4 rows of x times 2 groups, or 2
times 4, each zero outside of its group: no lane ever adds what has another scale. float32, bfloat16
on Turing and addresses that miss a 128-bit boundary add up product by product. Sums are float32, in a
fixed order.

Up to 8 rows of x share one reading of the weights, 4 in groups of less than 128; more are more
readings, the second out of the L2 cache. Beyond some 16 rows arithmetic is the limit: dequantize, and
multiply as a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import cuda

from accel.cuda.geometry import WARP, cdiv, product, require, sizes
from accel.errors import UsageError
from accel.kernels import _int4
from accel.kernels._device import ALL_LANES, BYTES, LANES, aligned, f32, i32, i64, put, stored, u32
from accel.kernels._int4 import ROWS, add, fetch, of_column, of_group, singly, word
from accel.kernels._tensor_cores import apart, mma, turing, unpack, words
from accel.protocols import Case, Launch, Shapes, Signature
from accel.values import Feed, Options

OP = "MatMulDequantInt4"
DTYPES = ("float32", "float16", "bfloat16")
GROUPS = (128, 64, 32)  # GPTQ, AWQ and NNCF; 32: ONNX Runtime's own quantizer
VARIANTS: tuple[Options, ...] = tuple({"group": group} for group in GROUPS)
TOLERANCE = {"float32": 4e-6, "float16": 1e-3, "bfloat16": 6e-3}
COLUMNS = 16  # of y, a block
HELD = 32  # weights of a column that one lane holds: 128 bits
STEP = 4 * HELD  # k that a warp takes at a time
WARPS = 8  # of a block, at most


def signature(dtype: str, baked: Options) -> Signature:
    """x, packed, scales, zero points | rows, columns, depth | y."""
    inputs = (("x", dtype), ("packed", "uint8"), ("scales", dtype), ("zero_points", "uint8"))
    return Signature(inputs, ("rows", "columns", "depth"), (("y", dtype),))


def output_shapes(shapes: Shapes, baked: Options) -> Shapes:
    """[..., N]."""
    return {"y": (*shapes["x"][:-1], shapes["packed"][0])}


def launch(shapes: Shapes, dtype: str, baked: Options) -> Launch:
    """A block has 16 columns; its warps share K, two steps each at least.

    Raises UsageError where the sizes do not belong together, and for other groups than GROUPS."""
    depth, group = sizes("matmul_dequant_int4", shapes, "x")[-1], baked["group"]
    columns = sizes("matmul_dequant_int4", shapes, "packed", 2)[0]
    if group not in GROUPS:
        allowed = ", ".join(map(str, GROUPS))
        raise UsageError(f"matmul_dequant_int4 takes groups of {allowed}, not {group}.")
    groups = depth // group
    found = (shapes["packed"][-1] * 2, shapes["scales"][-1] * group, shapes["zero_points"][-1])
    if not depth or depth % group or found != (depth, depth, cdiv(groups, 2)):
        raise UsageError(
            f"matmul_dequant_int4 takes x [..., K], K a multiple of {group}, packed [N, K / 2], "
            f"scales [N, K / {group}], zero_points [N, ceil(K / {2 * group})]; not "
            f"{', '.join(f'{name} {tuple(map(str, sizes))}' for name, sizes in shapes.items())}."
        )
    weight = {"scales": (columns, groups), "zero_points": (columns, cdiv(groups, 2))}
    require("matmul_dequant_int4", shapes, **weight)
    warps = 1
    while warps < WARPS and warps * 4 * STEP <= depth:
        warps *= 2
    rows = product(shapes["x"][:-1])
    blocks = product((cdiv(rows, _slab(baked)), cdiv(columns, COLUMNS)))
    return Launch((blocks, 1, 1), (WARP, warps, 1), (rows, columns, depth))


def _slab(baked: Options) -> int:
    """Rows of x that share one reading of the weights."""
    return 8 if baked["group"] >= STEP else ROWS


def reference(inputs: Feed, baked: Options) -> dict[str, Any]:
    """float64: the weights as numbers, then a matrix product."""
    groups = inputs["scales"].shape[1]
    scales = inputs["scales"].astype(np.float64).repeat(baked["group"], 1)
    zeros = _unpacked(inputs["zero_points"])[:, :groups].repeat(baked["group"], 1)
    weights = (_unpacked(inputs["packed"]).astype(np.float64) - zeros) * scales  # [N, K]
    with np.errstate(invalid="ignore"):  # infinity times a weight of 0 is NaN, and is meant
        return {"y": inputs["x"].astype(np.float64) @ weights.T}


def _unpacked(values: Any) -> Any:
    return np.stack([values & 15, values >> 4], -1).reshape(len(values), -1)


def source(dtype: str, baked: Options) -> Any:
    """Block (lanes, warps of K); nothing leaves early: shuffles and tensor cores take whole warps."""
    group, slab = baked["group"], _slab(baked)
    parts = max(1, STEP // group)  # of a step: groups
    beside, quarters = 8 // parts, 4 // parts  # rows in the columns of one mma; lanes of a part
    twice = slab > beside
    outputs, halves = slab * COLUMNS, slab // ROWS
    sums, partials = 2 * ROWS, WARPS * outputs
    narrow, half = dtype != "float32", dtype == "float16"
    eight = _int4.four_twice if LANES[dtype] == 4 else _int4.eight

    def matmul_dequant_int4(x, packed, scales, zero_points, rows, columns, depth, y):  # type: ignore[no-untyped-def]
        lane, warp = i32(cuda.threadIdx.x), i32(cuda.threadIdx.y)
        warps = i32(cuda.blockDim.y)
        g, t = i32(lane >> 2), i32(lane & 3)
        slabs = i32((rows + i32(slab - 1)) // i32(slab))
        tile = i32(i32(cuda.blockIdx.x) // slabs) * i32(COLUMNS)
        first = i32(i32(cuda.blockIdx.x) % slabs) * i32(slab)
        upper = i32(min(i32(tile + g), i32(columns - i32(1))))
        lower = i32(min(i32(tile + g + i32(8)), i32(columns - i32(1))))
        wide = aligned(packed) and aligned(x)
        cores = narrow and wide and (half or not turing())
        total = cuda.local.array(sums, f32)  # [pair of rows, (g, g + 8), row of the pair]
        partial = cuda.shared.array(partials, f32)  # [warp, row, column]
        base = i32(warp * i32(STEP))
        start = i32(base + t * i32(HELD))
        stride = i32(warps * i32(STEP))
        mine = warp * i32(outputs) + g

        if cores:
            for i in range(sums):
                total[i] = f32(0)
            k, row = start, i32(first + g % beside)
            inside = g // beside == t // quarters and row < rows
            ahead = fetch(packed, scales, zero_points, upper, k, depth, group)
            other_ahead = fetch(packed, scales, zero_points, lower, k, depth, group)
            while base < depth:
                q, scale, zero = ahead
                p, other_scale, other_zero = other_ahead
                at = i64(row) * i64(depth) + i64(k)
                loaded = inside and k < depth
                base, k = i32(base + stride), i32(k + stride)
                ahead = fetch(packed, scales, zero_points, upper, k, depth, group)
                other_ahead = fetch(packed, scales, zero_points, lower, k, depth, group)
                c = (f32(0), f32(0), f32(0), f32(0))
                e = (f32(0), f32(0), f32(0), f32(0))
                for j in range(4):
                    a = unpack(x, q[j], zero)
                    d = unpack(x, p[j], other_zero)
                    b = (u32(0), u32(0), u32(0), u32(0))
                    if loaded:
                        b = words(x, at + i64(8 * j))
                    c = mma(x, a, d, apart(b), c)
                    if twice and first + beside < rows:  # the same for the whole block
                        b = (u32(0), u32(0), u32(0), u32(0))
                        if loaded and row + beside < rows:
                            b = words(x, at + i64(beside) * i64(depth) + i64(8 * j))
                        e = mma(x, a, d, apart(b), e)
                for i in range(2):
                    total[i] += scale * c[i]
                    total[i + 2] += other_scale * c[i + 2]
                    total[i + 4] += scale * e[i]
                    total[i + 6] += other_scale * e[i + 2]
            for i in range(sums):
                if beside < 8:
                    total[i] += cuda.shfl_xor_sync(ALL_LANES, total[i], 2)
                if beside < 4:
                    total[i] += cuda.shfl_xor_sync(ALL_LANES, total[i], 1)
                m = i32(2 * t + i32((i & 1) + (i >> 2) * beside))
                if 2 * t < beside and m < slab:
                    partial[mine + m * i32(COLUMNS) + i32((i & 2) << 2)] = total[i]
        else:
            for part in range(halves):
                for i in range(sums):
                    total[i] = f32(0)
                k, row = start, i32(first + i32(part * ROWS))
                left = i32(rows - row)
                while k < depth:
                    at = i64(row) * i64(depth) + i64(k)
                    here = of_group(scales, zero_points, upper, k, depth, group)
                    there = of_group(scales, zero_points, lower, k, depth, group)
                    if wide:
                        q = of_column(packed, upper, k, depth)
                        p = of_column(packed, lower, k, depth)
                        add(total, x, at, depth, left, eight, q[0], here, p[0], there)
                        add(total, x, at + 8, depth, left, eight, q[1], here, p[1], there)
                        add(total, x, at + 16, depth, left, eight, q[2], here, p[2], there)
                        add(total, x, at + 24, depth, left, eight, q[3], here, p[3], there)
                    else:
                        for j in range(4):
                            one = word(packed, upper, k + 8 * j, depth)
                            other = word(packed, lower, k + 8 * j, depth)
                            add(total, x, at + 8 * j, depth, left, singly, one, here, other, there)
                    k = i32(k + stride)
                for i in range(sums):
                    total[i] += cuda.shfl_xor_sync(ALL_LANES, total[i], 1)
                    total[i] += cuda.shfl_xor_sync(ALL_LANES, total[i], 2)
                    m = ((i >> 2) << 1) + (i & 1)
                    if t == m:
                        m = i32(m + part * ROWS)
                        partial[mine + m * i32(COLUMNS) + i32((i & 2) << 2)] = total[i]

        cuda.syncthreads()
        at = i32(warp * i32(WARP) + lane)
        while at < outputs:
            row, column = i32(first + (at >> 4)), i32(tile + (at & 15))
            s = f32(0)
            for w in range(warps):
                s += partial[i32(w) * i32(outputs) + at]
            if row < rows and column < columns:
                put(y, i64(row) * i64(columns) + i64(column), s)
            at = i32(at + warps * i32(WARP))

    return matmul_dequant_int4


def function(opset: int = 17) -> Any:
    """Nibbles by float32 arithmetic, which is exact; then MatMul in float32, by a weight that is
    constant once a runtime has folded it. Its operators are all in opset 17."""
    from accel.kernels import _swap_matmul_dequant_int4

    return _swap_matmul_dequant_int4.function(opset)


def rules() -> tuple[Any, ...]:
    """DequantizeLinear of a constant int4 or uint4, in blocks along K, then MatMul."""
    from accel.kernels import _swap_matmul_dequant_int4

    return _swap_matmul_dequant_int4.rules()


def cases(dtype: str) -> Iterable[Case]:
    """Part steps, odd N, few rows and many, all -8, outliers, extreme scales, NaN, no alignment."""
    yield Case("four rows", _draw(dtype, (4, 512), 16, 128))
    yield Case("one row, odd N, odd groups", _draw(dtype, (1, 384), 37, 128))
    yield Case("nine rows", _draw(dtype, (9, 128), 9, 128))
    yield Case("eight warps", _draw(dtype, (3, 2048), 16, 128))
    yield Case("groups of 64, six rows", _draw(dtype, (2, 3, 192), 20, 64), {"group": 64})
    yield Case("groups of 32, less than a step", _draw(dtype, (2, 96), 5, 32), {"group": 32})
    yield Case("not aligned", _draw(dtype, (5, 160), 18, 32), {"group": 32}, offset=1)
    least = _draw(dtype, (2, 256), 16, 128)
    least["packed"][:], least["zero_points"][:] = 0, 0x88
    yield Case("every weight -8", least)
    outliers = _draw(dtype, (4, 256), 16, 128)
    outliers["x"][:, ::50] *= 300
    yield Case("outliers", outliers)
    extreme = _draw(dtype, (3, 256), 16, 32)
    extreme["scales"][:] = stored(2.0 ** -np.arange(0, 24, 3), dtype)
    extreme["zero_points"][::2], extreme["zero_points"][1::2] = 0xF0, 0x0F
    yield Case("extreme scales and zero points", extreme, {"group": 32})
    broken = _draw(dtype, (4, 160), 16, 32)
    broken["x"][1, 5], broken["x"][2, 7] = np.nan, np.inf
    yield Case("NaN and infinity stay in their rows", broken, {"group": 32})


def _draw(dtype: str, shape: tuple[int, ...], columns: int, group: int) -> dict[str, Any]:
    draw = np.random.default_rng(math.prod(shape) + columns)
    depth = shape[-1]
    groups = depth // group
    return {
        "x": stored(draw.normal(size=shape), dtype),
        "packed": draw.integers(0, 256, (columns, depth // 2), np.uint8),
        "scales": stored(draw.uniform(0.5, 1.5, (columns, groups)) / 64, dtype),
        "zero_points": draw.integers(0, 256, (columns, cdiv(groups, 2)), np.uint8),
    }


def moved_bytes(shapes: Shapes, dtype: str, baked: Options) -> int:
    """Packed weights, scales and zero points once, x in, y out."""
    rows, columns = math.prod(shapes["x"][:-1]), shapes["packed"][0]
    floats = math.prod(shapes["x"]) + math.prod(shapes["scales"]) + rows * columns
    weights = math.prod(shapes["packed"]) + math.prod(shapes["zero_points"])
    return int(weights + floats * BYTES[dtype])
