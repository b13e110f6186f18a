"""A weight's scales lie along another axis than its channels, or a node works along another axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.causes._cause import Cause
from accel.explaining.evidence import Evidence

BETTER = 0.25  # of the error: the right axis leaves less than this
NAMES = ("axis", "axes", "perm", "transA", "transB")


def judge(e: Evidence) -> Cause | None:
    """Of a weight: are its integers right with the same scales along another axis?"""
    if e.part.kind == "node":
        return _of_node(e)
    if e.part.kind != "weight" or e.before is None or e.after is None:
        return None
    if e.axis is not None and e.quantized is not None and e.scale is not None:
        now = _off(e.before, e.after)
        for axis, size in enumerate(e.before.shape):
            if axis == e.axis % e.before.ndim or size != e.scale.size:
                continue
            if _off(e.before, _along(e.quantized, e.scale, axis)) < BETTER * now:
                return _told(f"scales lie along axis {e.axis}; along axis {axis} they fit")
        if e.channels is not None and e.channels != e.axis:
            needed = [_needed(e.before, axis) for axis in (e.axis, e.channels)]
            if needed[1] < BETTER * needed[0] and BETTER < now / needed[0] < 1 / BETTER:
                return _told(
                    f"scales lie along axis {e.axis}; its output channels are axis {e.channels}"
                )
    return None


def _told(message: str) -> Cause:
    return Cause(
        "swapped axis",
        message,
        "quantize again along the output channels: --recipe int8_mixed",
        0.95,
    )


def _of_node(e: Evidence) -> Cause | None:
    one, two = e.attributes
    moved = [n for n in NAMES if one.get(n) != two.get(n) and (n in one or n in two)]
    if e.operators[0] != e.operators[1] or not moved:
        return None
    told = ", ".join(f"{n} is {two.get(n)}, and {one.get(n)} in the reference" for n in moved)
    return Cause("swapped axis", told, "mend the pass that rewrote this node", 0.95)


def _off(before: NDArray[Any], after: NDArray[Any]) -> float:
    return float(((before.astype(np.float64) - after) ** 2).sum())


def _along(quantized: NDArray[Any], scale: NDArray[Any], axis: int) -> NDArray[Any]:
    shape = [-1 if i == axis else 1 for i in range(quantized.ndim)]
    found: NDArray[Any] = quantized.astype(np.float32) * scale.reshape(shape)
    return found


def _needed(before: NDArray[Any], axis: int) -> float:
    """The rounding error of fresh symmetric int8 scales along an axis."""
    others = tuple(i for i in range(before.ndim) if i != axis)
    step = np.abs(before).max(axis=others) / 127
    return float((step**2 / 12).mean() * before.size)
