"""A value is larger than float16 can hold, or a sum or a power on the way to it is."""

from __future__ import annotations

import math

from accel.causes._cause import Cause
from accel.explaining.evidence import HALF_MOST, Evidence
from accel.sketch import Sketch

SQUARES = ("Pow", "ReduceL2", "ReduceSumSquare", "LayerNormalization")
MEND = "accel quantize MODEL --recipe fp16 --data x.npz: it keeps what overflows in float32"


def judge(e: Evidence) -> Cause | None:
    """By the reference's own values, before the node and behind it."""
    if e.part.kind != "node" or e.half != "float16":
        return None
    if (largest := _largest(e.seen)) > HALF_MOST:
        return Cause(
            "fp16 overflow", f"values reach {largest:.3g}; float16 ends at 65504", MEND, 1.0
        )
    read, operator = _largest(e.read), e.operators[0]
    if operator in SQUARES and read**2 > HALF_MOST:
        return _inside(f"{operator} squares {read:.3g} in float16, which ends at 65504")
    if operator == "Exp" and read > math.log(HALF_MOST):
        return _inside(f"Exp of {read:.3g} in float16, which ends at 65504")
    return None


def _inside(message: str) -> Cause:
    return Cause("fp16 overflow", message, MEND, 0.9)


def _largest(sketch: Sketch | None) -> float:
    return 0.0 if sketch is None or not sketch.count else max(-sketch.low, sketch.high)
