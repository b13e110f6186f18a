"""A sketch's histogram as the methods want it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.sketch import Sketch


def centres(sketch: Sketch) -> tuple[NDArray[Any], NDArray[Any]]:
    """The middle of each bin and how many numbers it holds, exact zeros left out, [bins] each.

    0 is a value of every quantized type: it costs nothing, wherever the range ends."""
    edges = sketch.edges()
    counts = sketch.counts.astype(np.float64)
    if len(counts) and sketch.first <= 0 < sketch.first + len(counts):
        counts[-sketch.first] -= sketch.zeros
    return (edges[:-1] + edges[1:]) / 2, counts


def with_zero(low: float, high: float, symmetric: bool) -> tuple[float, float]:
    """The range, widened so that 0 is in it; both ends alike where it is symmetric."""
    low, high = min(low, 0.0), max(high, 0.0)
    top = max(-low, high)
    return (-top, top) if symmetric else (low, high)
