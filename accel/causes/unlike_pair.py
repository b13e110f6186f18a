"""What is read back is not what was written: a Q and its DQ have other numbers."""

from __future__ import annotations

from accel.causes._cause import Cause
from accel.explaining.evidence import Evidence


def judge(e: Evidence) -> Cause | None:
    """By their constants."""
    if not e.unlike:
        return None
    mend = "give both nodes the same scale and zero point, or quantize again"
    return Cause("wrong or stale scale", e.unlike, mend, 1.0)
