"""When is there enough calibration data? When twice as much no longer moved the ranges.

Looked at after 16, 32, 64, ... feeds: a value's range has settled where neither end of what Percentile
and MSE choose moved by more than TOLERANCE of the range since half as many feeds. (Extremes never
settle: the largest of n values goes on growing with n.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accel.ranges import mse, percentile
from accel.sketch import Sketch

FIRST = 16  # feeds; fewer have not seen what the data can be
TOLERANCE = 0.02  # 5 steps of 255
STEPS = 255
METHODS = (percentile.of, mse.of)
Ranges = Mapping[str, tuple[tuple[float, float], ...]]


@dataclass
class Watch:
    """Compares with what it saw at half as many feeds."""

    settled: bool = False
    moving: tuple[str, ...] = ()  # at the last look, the most moved first
    _before: Ranges = field(default_factory=dict)

    def look(self, done: int, sketches: Mapping[str, Sketch]) -> None:
        """Compare, at powers of two from FIRST on."""
        if done < FIRST // 2 or done & (done - 1):
            return
        now = {name: _ranges(sketch) for name, sketch in sketches.items() if sketch.count}
        first, moved = (
            not self._before,
            {n: _moved(self._before.get(n, ()), r) for n, r in now.items()},
        )
        self._before = now
        if first:
            return
        worst = sorted(moved, key=lambda n: -moved[n])
        self.moving = tuple(n for n in worst if moved[n] > TOLERANCE)
        self.settled = done >= FIRST and not self.moving


def _ranges(sketch: Sketch) -> tuple[tuple[float, float], ...]:
    return tuple(of(sketch, STEPS, False) for of in METHODS)


def _moved(before: tuple[tuple[float, float], ...], now: tuple[tuple[float, float], ...]) -> float:
    """The largest move of an end, as a share of the range."""
    if not before:
        return float("inf")
    found = 0.0
    for (low, high), (low_now, high_now) in zip(before, now, strict=True):
        width = max(high_now - low_now, high - low)
        if width:
            found = max(found, abs(low - low_now) / width, abs(high - high_now) / width)
    return found
