"""All but one value in ten thousand: as many are clipped on either side, or of the magnitudes.

(Wu et al., arXiv 2004.09602, compare shares from 99.9 to 99.9999 %; this one is our choice.)
"""

from __future__ import annotations

import numpy as np

from accel.ranges import _bins
from accel.sketch import Sketch

SHARE = 0.9999


def of(sketch: Sketch, steps: int, symmetric: bool, share: float = SHARE) -> tuple[float, float]:
    """Quantiles, right to a bin: 1/4096 of what was seen."""
    if not sketch.count:
        return 0.0, 0.0
    if symmetric:
        middle, counts = _bins.centres(sketch)
        order = np.argsort(np.abs(middle))
        seen = np.cumsum(counts[order]) + sketch.zeros
        found = float(np.abs(middle)[order][np.searchsorted(seen, share * sketch.count - 0.5)])
        top = min(found, max(-sketch.low, sketch.high))
        return _bins.with_zero(-top, top, True)
    tail = (1 - share) / 2
    return _bins.with_zero(_quantile(sketch, tail), _quantile(sketch, 1 - tail), False)


def _quantile(sketch: Sketch, q: float) -> float:
    """As many numbers are below it as q says; within a bin they are taken to lie evenly."""
    below = np.concatenate(([0], np.cumsum(sketch.counts)))
    found = float(np.interp(q * sketch.count, below, sketch.edges()))
    return min(max(found, sketch.low), sketch.high)
