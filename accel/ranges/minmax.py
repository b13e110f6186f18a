"""Everything that was seen: nothing is clipped, and one outlier widens every step."""

from __future__ import annotations

from accel.ranges import _bins
from accel.sketch import Sketch


def of(sketch: Sketch, steps: int, symmetric: bool) -> tuple[float, float]:
    """From the least to the largest value."""
    return _bins.with_zero(sketch.low, sketch.high, symmetric) if sketch.count else (0.0, 0.0)
