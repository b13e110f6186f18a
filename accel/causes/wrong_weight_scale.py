"""A weight comes back larger or smaller than it was, by a factor: its scale is not its own."""

from __future__ import annotations

import numpy as np

from accel.causes._cause import Cause
from accel.explaining.evidence import Evidence

OFF = 0.04  # of the size; rounding to 8 bits changes a whole channel by far less


def judge(e: Evidence) -> Cause | None:
    """By the least-squares factor between the two forms, of each channel that has a scale."""
    if (
        e.part.kind != "weight"
        or e.before is None
        or e.after is None
        or e.before.shape != e.after.shape
    ):
        return None
    axis = 0 if e.axis is None else e.axis % e.before.ndim
    rows = (np.moveaxis(e.before, axis, 0).reshape(e.before.shape[axis], -1).astype(np.float64) if e.before.ndim else e.before.reshape(1, 1))  # fmt: skip
    after = (
        np.moveaxis(e.after, axis, 0).reshape(rows.shape) if e.after.ndim else e.after.reshape(1, 1)
    )
    if e.axis is None:
        rows, after = rows.reshape(1, -1), after.reshape(1, -1)
    size = (rows**2).sum(axis=1)
    factor = np.where(size > 0, (rows * after).sum(axis=1) / np.where(size > 0, size, 1), 1)
    rest = ((after - factor[:, None] * rows) ** 2).sum(axis=1)
    wrong = (np.abs(factor - 1) > OFF) & (rest < 0.25 * (factor - 1) ** 2 * size)
    if not wrong.any():
        return None
    worst = int(np.argmax(np.where(wrong, np.abs(factor - 1) * np.sqrt(size), -1)))
    where = (
        ""
        if e.axis is None
        else f" in {int(wrong.sum())} of {len(factor)} channels, channel {worst}"
    )
    return Cause(
        "wrong or stale scale",
        f"it comes back {factor[worst]:.3g} times its size{where}",
        "quantize again from the float weights: the scale was kept from others",
        0.9,
    )
