"""Reading int4 weights by column and group, and multiplying them by rows of x product by product.

Plain functions of a kernel: a column of the weight is contiguous in `packed`, [N, K / 2].
"""

from __future__ import annotations

from typing import Any

from accel.kernels._device import device, f32, get, i32, i64, read, u32
from accel.kernels._tensor_cores import integers, words

ROWS = 4  # of x, that share one reading of the weights


@device
def of_group(scales: Any, zero_points: Any, column: Any, k: Any, depth: Any, group: Any) -> Any:
    """The scale and the zero point of a column at k."""
    groups = i32(depth // group)
    g = i32(k // group)
    two = zero_points[i64(column) * i64((groups + 1) >> 1) + i64(g >> 1)]
    zero = u32((two >> ((g & 1) << 2)) & 15)
    return get(scales, i64(column) * i64(groups) + i64(g)), zero


@device
def fetch(packed: Any, scales: Any, zero_points: Any, column: Any, k: Any, depth: Any, group: Any) -> Any:  # fmt: skip
    """128 bits of a column from k on, the scale, the zero point; a scale of 0 beyond the column's
    end, where any weight will do, x being zero there."""
    at = k if k < depth else i32(0)
    scale, zero = of_group(scales, zero_points, column, at, depth, group)
    q = words(packed, i64(column) * i64(depth >> 1) + i64(at >> 1))
    return q, scale if k < depth else f32(0), zero


@device
def word(packed: Any, column: Any, k: Any, depth: Any) -> Any:
    """The eight weights of a column from k on, byte by byte."""
    place = i64(column) * i64(depth >> 1) + i64(k >> 1)
    bits = u32(0)
    for i in range(4):
        bits |= u32(packed[place + i]) << u32(8 * i)
    return u32(bits)


@device
def eight(x: Any, at: Any) -> Any:
    """Eight values of 16 bits."""
    return read(x, at)


@device
def four_twice(x: Any, at: Any) -> Any:
    """Eight values of 32 bits."""
    return read(x, at) + read(x, at + 4)


@device
def singly(x: Any, at: Any) -> Any:
    """Eight values at any address."""
    return (
        get(x, at),
        get(x, at + 1),
        get(x, at + 2),
        get(x, at + 3),
        get(x, at + 4),
        get(x, at + 5),
        get(x, at + 6),
        get(x, at + 7),
    )


@device
def add(total: Any, x: Any, start: Any, depth: Any, left: Any, values: Any, q: Any, here: Any, p: Any, there: Any) -> None:  # fmt: skip
    """Eight weights of two columns times up to ROWS rows of x.

    total: [pair of rows, column, row of the pair]; here, there: a column's scale and zero point."""
    a, d = integers(q, here[1]), integers(p, there[1])
    for m in range(ROWS):
        if m < left:
            part = values(x, start + i64(m) * i64(depth))
            one, other = f32(0), f32(0)
            for i in range(8):
                one += a[i] * part[i]
                other += d[i] * part[i]
            i = ((m >> 1) << 2) + (m & 1)
            total[i] += here[0] * one
            total[i + 2] += there[0] * other
