"""What PTX instructions compute, on numpy vectors that hold a value for every thread.

Semantics: NVIDIA, Parallel Thread Execution ISA, chapter 9. Floats round once, to nearest even: a
fused multiply-add is computed in float64. Approximate instructions are computed exactly, so a
kernel that needs more than they promise is not noticed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

WHOLE = {"s": "int", "u": "uint", "b": "uint"}
WIDTHS = (8, 16, 32, 64)
KINDS = {
    **{f"{c}{width}": np.dtype(f"{name}{width}") for c, name in WHOLE.items() for width in WIDTHS},
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "pred": np.dtype(np.bool_),
}
Vector = Any


def _nan(a: Vector, b: Vector) -> Vector:
    return np.isnan(a) | np.isnan(b)


COMPARE: dict[str, Callable[[Vector, Vector], Vector]] = {
    "eq": np.equal, "ne": lambda a, b: (a != b) & ~_nan(a, b), "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal,
    "hi": np.greater, "hs": np.greater_equal,
    "equ": lambda a, b: (a == b) | _nan(a, b), "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b), "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b), "geu": lambda a, b: ~(a < b),
    "num": lambda a, b: ~_nan(a, b), "nan": _nan,
}  # fmt: skip
ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def integer(kind: np.dtype[Any]) -> bool:
    """Is it a whole number, with a sign or without?"""
    return kind.kind in "iu"


def divide(a: Vector, b: Vector) -> Vector:
    """Towards zero for integers, as PTX does; numpy rounds down."""
    if not integer(a.dtype):
        return a / b
    down = a // b
    return down + ((down * b != a) & ((a < 0) != (b < 0))).astype(a.dtype)


def shift(a: Vector, by: Vector, left: bool) -> Vector:
    """Shifts by the width or more give 0, or the sign: PTX clamps."""
    width = 8 * a.dtype.itemsize
    far = by >= width
    by = np.minimum(by, width - 1).astype(a.dtype)
    if left:
        return np.where(far, 0, a << by).astype(a.dtype)
    lost = (a >> (width - 1)).astype(a.dtype) if a.dtype.kind == "i" else 0
    return np.where(far, lost, a >> by).astype(a.dtype)


def fma(a: Vector, b: Vector, c: Vector) -> Vector:
    """a * b + c, rounded once for 32 and 16 bits."""
    wide = a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)
    return wide.astype(a.dtype)


def extreme(a: Vector, b: Vector, largest: bool, nan: bool) -> Vector:
    """min and max: a NaN loses, unless `.NaN` asks for it."""
    if integer(a.dtype) or nan:
        return np.maximum(a, b) if largest else np.minimum(a, b)
    return np.fmax(a, b) if largest else np.fmin(a, b)


def widened(a: Vector) -> Vector:
    """The same numbers in integers twice as wide."""
    return a.astype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")


def high(a: Vector, b: Vector) -> Vector:
    """The upper half of a product."""
    if a.dtype.itemsize < 8:
        return (widened(a) * widened(b) >> (8 * a.dtype.itemsize)).astype(a.dtype)
    exact = a.astype(object) * b.astype(object)
    return np.array([int(v) >> 64 for v in exact], object).astype(a.dtype)


def convert(value: Vector, kind: np.dtype[Any], words: tuple[str, ...]) -> Vector:
    """cvt: a rounding to whole numbers where one is named, then the range of the target."""
    for name, turn in ROUND.items():
        if name in words:
            value = turn(value)
    if integer(kind) and not integer(value.dtype):
        least, most = (float(v) for v in (np.iinfo(kind).min, np.iinfo(kind).max))
        held = np.clip(np.nan_to_num(value.astype(np.float64), nan=0.0), least, most)
        top = held >= most  # float64 rounds the largest 64-bit numbers up, out of their range
        return np.where(top, np.iinfo(kind).max, np.where(top, 0, held).astype(kind)).astype(kind)
    if integer(kind) and "sat" in words:
        low, up = np.iinfo(kind).min, np.iinfo(kind).max
        return np.clip(value, max(low, np.iinfo(value.dtype).min), min(up, np.iinfo(value.dtype).max)).astype(kind)  # fmt: skip
    if "sat" in words:
        value = np.clip(np.nan_to_num(value, nan=0.0), 0, 1)
    return value.astype(kind)


def permute(a: Vector, b: Vector, selector: Vector) -> Vector:
    """prmt.b32: each nibble of the selector picks one of eight bytes, or its sign."""
    both = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
    out = np.zeros(a.shape, np.uint64)
    for i in range(4):
        nibble = selector.astype(np.uint64) >> np.uint64(4 * i)
        byte = both >> ((nibble & np.uint64(7)) * np.uint64(8)) & np.uint64(0xFF)
        sign = (byte >> np.uint64(7)) * np.uint64(0xFF)
        out |= np.where(nibble & np.uint64(8), sign, byte) << np.uint64(8 * i)
    return out.astype(np.uint32)


def leading_zeros(a: Vector) -> Vector:
    """clz."""
    width = 8 * a.dtype.itemsize
    found = np.full(a.shape, width, np.uint32)
    for bit in range(width):
        found[(a >> a.dtype.type(bit) & a.dtype.type(1)) != 0] = width - 1 - bit
    return found


def pairs(words: Vector, kind: np.dtype[Any]) -> Vector:
    """[n] words of 32 bits -> [n, 2] 16-bit floats, the lower half first."""
    return np.ascontiguousarray(words).view(kind).reshape(-1, 2)


def words(values: Vector) -> Vector:
    """The reverse of `pairs`."""
    return np.ascontiguousarray(values).view(np.uint32).ravel()


def multiply_tiles(a: list[Vector], b: list[Vector], c: list[Vector], kind: str) -> list[Vector]:
    """mma.m16n8k8 and m16n8k16, row.col, float32 sums: registers of whole warps in, and out.

    Where each lane's elements lie: PTX ISA, "Matrix Fragments for mma.m16n8k16"; the smaller shape
    has the first half of its registers, which is a product with zeros for the rest."""
    warps = len(a[0]) // 32
    group, pair = np.arange(32) // 4, np.arange(32) % 4 * 2
    left = np.zeros((warps, 16, 16), np.float32)
    right = np.zeros((warps, 16, 8), np.float32)
    for i, bits in enumerate(a):
        values = pairs(bits, KINDS[kind]).astype(np.float32).reshape(warps, 32, 2)
        for half in (0, 1):
            left[:, group + 8 * (i % 2), pair + half + 8 * (i // 2)] = values[:, :, half]
    for i, bits in enumerate(b):
        values = pairs(bits, KINDS[kind]).astype(np.float32).reshape(warps, 32, 2)
        for half in (0, 1):
            right[:, pair + half + 8 * i, group] = values[:, :, half]
    product = left.astype(np.float64) @ right.astype(np.float64)
    out = []
    for i, given in enumerate(c):
        found = product[:, group + 8 * (i // 2), pair + i % 2].reshape(-1)
        out.append((found + given).astype(np.float32))
    return out
