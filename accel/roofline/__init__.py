"""What a model costs at least on a target: operations and bytes, node by node, and peak memory."""

from __future__ import annotations

from accel.roofline._liveness import Peak, peak

__all__ = ["Peak", "peak"]
