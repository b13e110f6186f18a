"""What a model costs at least on a target: operations and bytes, node by node, and peak memory.

    sizes = {"batch": 1, "sequence": 128}
    floor(work(path, sizes), target.peaks).least_s        peak(path, sizes).total_bytes

Nothing runs: an ONNX file is read, its open axes are bound, and everything follows from sizes. What
cannot be told is listed as unknown, never counted as free in silence.
"""

from __future__ import annotations

from accel.roofline._floor import Floor, NodeFloor, floor
from accel.roofline._liveness import Peak, peak
from accel.roofline._sizes import Opened, axes, of_feed, opened
from accel.roofline._work import NodeWork, Work, work

__all__ = [
    "Floor",
    "NodeFloor",
    "NodeWork",
    "Opened",
    "Peak",
    "Work",
    "axes",
    "floor",
    "of_feed",
    "opened",
    "peak",
    "work",
]
