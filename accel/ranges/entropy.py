"""The range whose quantized distribution tells most of the original one: least Kullback-Leibler divergence.

(Migacz, 8-bit Inference with TensorRT, GTC 2017: 2048 bins of magnitudes, 128 levels; what lies beyond
the threshold is counted into the last bin of the reference, and is missing from the quantized one.)
Exact zeros are left out, as they are exact in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.ranges import _bins
from accel.sketch import Sketch

BINS, LEVELS, STRIDE = 2048, 128, 16
EPS = 1e-4  # of a bin that only the reference has: MXNet's smoothing, contrib/quantization.py


def of(sketch: Sketch, steps: int, symmetric: bool) -> tuple[float, float]:
    """The best threshold of magnitudes; an end that lies within it stays where it is."""
    if not sketch.count or sketch.low == sketch.high == 0:
        return 0.0, 0.0
    top = max(-sketch.low, sketch.high)
    counts = _magnitudes(sketch, top)
    sizes = range(LEVELS, BINS + 1, STRIDE)
    best = sizes[int(np.argmin([_divergence(counts, size) for size in sizes]))] * top / BINS
    return _bins.with_zero(max(sketch.low, -best), min(sketch.high, best), symmetric)


def _magnitudes(sketch: Sketch, top: float) -> NDArray[Any]:
    """[BINS] numbers by |x|, from 0 to `top`."""
    middle, counts = _bins.centres(sketch)
    at = np.minimum((np.abs(middle) * (BINS / top)).astype(int), BINS - 1)
    return np.bincount(at, counts, BINS)


def _divergence(counts: NDArray[Any], size: int) -> float:
    """KL(P || Q) of the first `size` bins, the rest counted into P's last one."""
    kept = counts[:size]
    reference = kept.copy()
    reference[-1] += counts[size:].sum()
    there = kept > 0
    level = np.arange(size) * LEVELS // size
    filled = np.bincount(level, there, LEVELS)
    share = np.bincount(level, kept, LEVELS) / np.maximum(filled, 1)
    quantized = np.where(there, share[level], 0.0)
    if not quantized.sum():
        return np.inf
    p, q = reference / reference.sum(), quantized / quantized.sum()
    q = np.where(q > 0, q, EPS)
    there = p > 0
    return float((p[there] * np.log(p[there] / q[there])).sum())
