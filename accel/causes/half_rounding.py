"""A node computes in 16 bits what needs more."""

from __future__ import annotations

from accel.causes._cause import Cause
from accel.explaining.evidence import Evidence

BITS = {"float16": 11, "bfloat16": 8}


def judge(e: Evidence) -> Cause | None:
    """Where nothing overflows."""
    if e.part.kind != "node" or not e.half:
        return None
    return Cause(
        f"{e.half} rounding",
        f"{e.operators[0]} in {e.half}, with {BITS[e.half]} bits of precision",
        "leave that node in float32: a Cast before it and one behind",
        0.4,
    )
