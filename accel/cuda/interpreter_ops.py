"""What single PTX instructions compute, on numbers: the interpreter's arithmetic."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

FORMATS = {"f16": "<e", "f32": "<f"}  # struct's
BYTE = 0xFF
ROUNDINGS: dict[str, Callable[[float], int]] = {
    "rni": round,
    "rzi": math.trunc,
    "rmi": math.floor,
    "rpi": math.ceil,
}


def as_float(bits: int, kind: str) -> float:
    """The number that the bits are."""
    if kind == "bf16":
        bits, kind = bits << 16, "f32"
    size = 2 if kind == "f16" else 4
    return float(struct.unpack(FORMATS[kind], bits.to_bytes(size, "little"))[0])


def as_bits(value: float, kind: str) -> int:
    """The bits of the nearest number; beyond the largest, infinity."""
    if kind == "bf16":
        return int(np.array(value, np.float32).astype(ml_dtypes.bfloat16).view(np.uint16))
    try:
        return int.from_bytes(struct.pack(FORMATS[kind], value), "little")
    except OverflowError:
        return as_bits(math.copysign(math.inf, value), kind)


def halves(word: int, kind: str) -> tuple[float, float]:
    """The two numbers in 32 bits, the low one first."""
    return as_float(word & 0xFFFF, kind), as_float(word >> 16, kind)


def signed(value: int, kind: str) -> int:
    """The bits as the type reads them; "b" and "u" are not signed."""
    width = 1 if kind == "pred" else int(kind[1:])
    value &= (1 << width) - 1
    return value - (1 << width) if kind[0] == "s" and value >> (width - 1) else value


def whole(number: float, rounding: str, kind: str) -> int:
    """The integer of a number, held within the type as PTX does; 0 for NaN."""
    if isinstance(number, int):
        return number
    width, low = int(kind[1:]), kind[0] == "s"
    least, most = (-(1 << width - 1), (1 << width - 1) - 1) if low else (0, (1 << width) - 1)
    number = 0.0 if math.isnan(number) else min(max(number, float(least)), float(most))
    return min(int(ROUNDINGS[rounding](number)), most)


def _divided(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return -quotient if (a < 0) != (b < 0) else quotient


def _permuted(a: int, b: int, select: int) -> int:
    held = a | b << 32
    return sum((held >> 8 * (select >> 4 * k & 7) & BYTE) << 8 * k for k in range(4))


INTEGER: dict[str, Callable[..., int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "mad": lambda a, b, c: a * b + c,
    "div": _divided,
    "rem": lambda a, b: a - b * _divided(a, b),
    "min": min,
    "max": max,
    "neg": lambda a: -a,
    "abs": abs,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": lambda a: ~a,
    "shl": lambda a, b: a << min(b, 64),
    "shr": lambda a, b: a >> min(b, 64),
    "prmt": _permuted,
}
FLOAT: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: float(np.float64(a) / np.float64(b)),
    "rcp": lambda a: float(np.float64(1) / np.float64(a)),
    "sqrt": lambda a: float(np.sqrt(np.float64(a))),
    "rsqrt": lambda a: float(1 / np.sqrt(np.float64(a))),
    "ex2": lambda a: float(np.exp2(np.float64(a))),
    "lg2": lambda a: float(np.log2(np.float64(a))),
    "fma": lambda a, b, c: a * b + c,
    "neg": lambda a: -a,
    "abs": abs,
    "min": lambda a, b: b if math.isnan(a) else a if math.isnan(b) else min(a, b),
    "max": lambda a, b: b if math.isnan(a) else a if math.isnan(b) else max(a, b),
}


def mma(shape: str, kind: str, lanes: Sequence[Any]) -> list[list[int]]:
    """D = A B + C of a warp, every lane's four float32.

    Element by element as PTX ISA 9.0 tells where each stands, "Matrix Fragments for mma.m16n8k8" and
    "mma.m16n8k16": lane = 4 g + t."""
    depth = int(shape.partition("k")[2])
    a, b, c = (np.zeros(size, np.float32) for size in ((16, depth), (depth, 8), (16, 8)))
    for lane, (of_a, of_b, of_c) in enumerate(lanes):
        g, t = divmod(lane, 4)
        for i, value in enumerate(v for word in of_a for v in halves(word, kind)):
            a[g + 8 * (i // 2 % 2), 2 * t + i % 2 + 8 * (i // 4)] = value
        for i, value in enumerate(v for word in of_b for v in halves(word, kind)):
            b[2 * t + i % 2 + 8 * (i // 2), g] = value
        for i, word in enumerate(of_c):
            c[g + 8 * (i // 2), 2 * t + i % 2] = as_float(word, "f32")
    with np.errstate(all="ignore"):
        d = a @ b + c
    return [
        [as_bits(d[lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2], "f32") for i in range(4)]
        for lane in range(32)
    ]
