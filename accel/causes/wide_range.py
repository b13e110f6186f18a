"""The pair's range is far wider than what passes: a stale scale, or one sample of the calibration data set it."""

from __future__ import annotations

from accel.causes._cause import Cause
from accel.explaining.evidence import Evidence

WIDE = 3.0  # times what was seen: more than a bit and a half


def judge(e: Evidence) -> Cause | None:
    """By the range beside the values' own, and beside calibration's where that is at hand."""
    if e.part.kind != "activation" or e.seen is None or not e.seen.count:
        return None
    width = max(e.seen.high, 0.0) - min(e.seen.low, 0.0)
    covered, used = e.high - e.low, max(width, 1e-30)
    if covered < WIDE * used:
        return None
    text = f"it covers {e.low:.3g} to {e.high:.3g}; values lie between {e.seen.low:.3g} and {e.seen.high:.3g}"
    known = e.calibrated
    if known is not None and known.count and known.high - known.low > WIDE * used:
        return Cause(
            "bad calibration sample",
            f"{text}; in the calibration data they reach from {known.low:.3g} to {known.high:.3g}",
            "leave such samples out, or take ranges that clip: --recipe int8_mixed (ranges mse)",
            0.9,
        )
    return Cause(
        "wrong or stale scale",
        f"{text}: {covered / used:.0f} times as wide as needed",
        "calibrate again: accel calibrate MODEL --data x.npz, then quantize anew",
        0.7,
    )
