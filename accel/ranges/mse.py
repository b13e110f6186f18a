"""The range whose quantization loses least in the mean square: what is clipped plus what is rounded.

    E(l, h) = sum_{x < l} (x - l)^2 + sum_{x > h} (x - h)^2
            + sum_{|x| < s/2} x^2 + #{the others inside} s^2 / 12,        s = (h - l) / steps

What is less than half a step becomes 0; the rounding error of all else inside is taken to be even in
[-s/2, s/2]. (Sakr et al., Optimal Clipping and Magnitude-aware Differentiation, arXiv 2206.06501,
with both ends free and small values told apart.) Every pair of a grid is tried: sums from the tails
make each of them cost the same few operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.ranges import _bins
from accel.sketch import Sketch

GRID = 2.0 ** (-np.arange(257) / 24)  # from the whole range to 1/1625 of it, 2.9 % apart


def of(sketch: Sketch, steps: int, symmetric: bool) -> tuple[float, float]:
    """The best pair on the grid."""
    if not sketch.count or sketch.low == sketch.high == 0:
        return 0.0, 0.0
    middle, counts = _bins.centres(sketch)
    low, high = _bins.with_zero(sketch.low, sketch.high, symmetric)
    lows = low * GRID if low else np.zeros(1)  # one end alone where all values have one sign
    highs = high * GRID if high else np.zeros(1)
    if symmetric:
        step = 2 * highs / steps
        sides = _side(-middle, counts, highs, step), _side(middle, counts, highs, step)
        best = int(np.argmin(sum(sides)))
        return -float(highs[best]), float(highs[best])
    step = (highs[None, :] - lows[:, None]) / steps  # [lows, highs]
    cost = _side(-middle, counts, -lows[:, None], step) + _side(
        middle, counts, highs[None, :], step
    )
    i, j = np.unravel_index(np.argmin(cost), cost.shape)
    return float(lows[i]), float(highs[j])


def _side(
    x: NDArray[Any], counts: NDArray[Any], ends: NDArray[Any], step: NDArray[Any]
) -> NDArray[Any]:
    """What the numbers x > 0 lose: clipped beyond `ends`, 0 below half a step, rounded between."""
    order = np.argsort(x)
    x, counts = x[order], np.where(x[order] > 0, counts[order], 0.0)
    sums = [np.concatenate(([0.0], np.cumsum(counts * x**p))) for p in (0, 1, 2)]
    at = np.searchsorted(x, ends, side="right")
    number, first, square = (s[-1] - s[at] for s in sums)
    clipped = np.maximum(square - 2 * ends * first + ends**2 * number, 0.0)
    small = np.searchsorted(x, np.minimum(ends, step / 2), side="right")
    rounded = sums[0][at] - sums[0][small]
    found: NDArray[Any] = clipped + sums[2][small] + rounded * step**2 / 12
    return found
