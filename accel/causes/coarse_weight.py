"""A weight whose rows differ so much in size that one scale for all rounds the small ones away."""

from __future__ import annotations

import numpy as np

from accel.causes._cause import Cause
from accel.explaining.evidence import Evidence

SPREAD = 20.0  # the largest row over the median one


def judge(e: Evidence) -> Cause | None:
    """Where there is one scale for all."""
    if e.part.kind != "weight" or e.before is None or e.quantized is None or e.axis is not None:
        return None
    if e.before.ndim < 2:
        return None
    spread = {}
    for axis in range(min(2, e.before.ndim)):
        others = tuple(i for i in range(e.before.ndim) if i != axis)
        size = np.abs(e.before).max(axis=others)
        spread[axis] = float(size.max() / max(float(np.median(size)), 1e-30))
    axis = max(spread, key=lambda a: spread[a])
    if spread[axis] < SPREAD:
        return None
    return Cause(
        "outlier channel",
        f"one scale for all, and rows along axis {axis} differ by {spread[axis]:.0f} times",
        "quantize per channel: --recipe int8_mixed; of depthwise nets with --variant 3 (equalisation)",
        0.7,
    )
