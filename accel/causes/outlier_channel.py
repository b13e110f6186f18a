"""A few channels are far larger than the rest: the one step that holds them is too coarse for the others."""

from __future__ import annotations

import numpy as np

from accel.causes._cause import Cause
from accel.explaining.evidence import TWO, Evidence
from accel.explaining.view import SMOOTH

FAR = 8.0  # times the median channel: three of the eight bits
KEPT = "leave it in float32"
MATRICES = {"MatMul", "Gemm"}
MIGRATED = f"accel quantize MODEL --recipe int8_mixed --variant 2 (scale migration), or {KEPT}"
EQUALIZED = f"accel quantize MODEL --recipe int8_mixed --variant 3 (equalisation), or {KEPT}"


def judge(e: Evidence) -> Cause | None:
    """By the largest magnitude of each channel."""
    if e.part.kind != "activation" or e.seen is None or e.seen.channel_low is None:
        return None
    size = np.maximum(-e.seen.channel_low, np.asarray(e.seen.channel_high))
    median = float(np.median(size))
    far = np.flatnonzero(size > FAR * median) if median else np.zeros(0, int)
    if not len(far) or len(far) > len(size) / 4 or e.high - e.low < float(size.max()) / 4:
        return None
    worst = int(np.argmax(size))
    steps = median * (2 if e.low < 0 else 1) / e.step
    return Cause(
        "outlier channel",
        f"{len(far)} of {len(size)} channels are over {FAR:g} times the median; channel {worst} reaches "
        f"{size[worst]:.3g}, the median one {median:.3g}, for which {steps:.0f} of 255 steps are left",
        KEPT if e.part.value.endswith(SMOOTH) else _mend(e.around),  # once is enough
        0.8,
    )


def _mend(around: tuple[str, ...]) -> str:
    """Scales move into the one convolution behind another, or into products by a matrix, where no other product
    reads the value."""
    readers = {*around[1:]}
    if around == ("Conv", "Conv"):
        return EQUALIZED
    return MIGRATED if readers & MATRICES and not readers & {"Conv", TWO} else KEPT
