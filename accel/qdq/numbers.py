"""Scales, zero points and quantized weights.

q(x) = clamp(round(x / scale) + zero),    scale = (high - low) / steps
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = np.float32(2.0**-126)  # a scale below float32's least normal number divides to infinity
BIAS_MOST = 2.0**30  # of an int32 bias, in steps: as much again is left for the sum it joins


@dataclass(frozen=True)
class Steps:
    """The 8-bit type that a tensor is quantized to."""

    signed: bool
    symmetric: bool
    bits: int = 8  # 7: sums of two products must fit in int16 where there is no VNNI

    @property
    def count(self) -> int:
        """Steps between the ends of the range."""
        return (1 << self.bits) - (2 if self.symmetric else 1)

    @property
    def lowest(self) -> int:
        """The least number of the type."""
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def dtype(self) -> Any:
        """numpy's."""
        return np.int8 if self.signed else np.uint8

    @property
    def middle(self) -> int:
        """The zero point of a symmetric range."""
        return 0 if self.signed else 2 ** (self.bits - 1)


def of_range(low: float, high: float, steps: Steps) -> tuple[Any, Any]:
    """(scale, zero point) as numpy scalars; 0 is always in it, and a range of nothing gets scale 1."""
    low, high = min(low, 0.0), max(high, 0.0)
    if steps.symmetric:
        top = max(-low, high)
        scale = np.float32(2 * top / steps.count) if top else np.float32(1)
        return max(scale, SMALLEST), steps.dtype(steps.middle)
    scale = max(np.float32((high - low) / steps.count), SMALLEST) if high > low else np.float32(1)
    zero = round(steps.lowest - low / float(scale))
    return scale, steps.dtype(min(max(zero, steps.lowest), steps.lowest + steps.count))


def of_weight(
    weight: NDArray[Any], axis: int | None, steps: Steps, least: NDArray[Any] | float = 0.0
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(quantized, scales, zero points): one scale for all, [] , or one along `axis`, [channels].

    `least`: scales are not below it (see `of_bias`)."""
    others = tuple(i for i in range(weight.ndim) if i != axis) if axis is not None else None
    low, high = weight.min(axis=others), weight.max(axis=others)
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    width = 2 * np.maximum(-low, high) if steps.symmetric else high - low
    scale = np.where(width > 0, width / steps.count, 1.0)
    scale = np.maximum(scale, np.maximum(least, SMALLEST)).astype(np.float32)
    if steps.symmetric:
        zero = np.full_like(scale, steps.middle)
    else:
        zero = np.clip(
            np.round(steps.lowest - low / scale), steps.lowest, steps.lowest + steps.count
        )
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)] if axis is not None else []
    wide, shift = (x.reshape(shape) if shape else x for x in (scale, zero))
    top = steps.lowest + 2**steps.bits - 1
    bottom = steps.middle - steps.count // 2 if steps.symmetric else steps.lowest
    quantized = np.clip(np.round(weight / wide) + shift, bottom, top).astype(steps.dtype)
    return quantized, scale, zero.astype(steps.dtype)


def least_scale(bias: NDArray[Any] | None, activation_scale: float) -> NDArray[Any] | float:
    """The weight scale below which an int32 bias would overflow: of a dead channel, with a bias."""
    if bias is None:
        return 0.0
    found: NDArray[Any] = np.abs(bias) / (activation_scale * BIAS_MOST)
    return found


def of_bias(
    bias: NDArray[Any], activation_scale: float, weight_scale: NDArray[Any]
) -> NDArray[Any]:
    """int32, in steps of the product's scale."""
    scale = weight_scale.astype(np.float64) * activation_scale
    return np.round(bias / scale).astype(np.int32)
