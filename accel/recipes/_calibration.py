"""Calibration data that a recipe needs: there, of the model's ports, and numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy

from accel import arrays
from accel.errors import UsageError
from accel.values import Feed, Model


def checked(recipe: str, calibration: Iterable[Feed] | None, model: Model) -> list[Feed]:
    """The feeds. Raises UsageError for data that is absent, empty, NaN, Inf or not for this model."""
    feeds = list(calibration or ())
    if not feeds:
        raise UsageError(
            f"{recipe} needs calibration data and never invents it. Add calibration() to the "
            "workload, or give --data x.npz."
        )
    for i, feed in enumerate(feeds):
        arrays.fit(feed, model.inputs, f"calibration feed {i}")
        for name, array in feed.items():
            if array.dtype.kind == "f" and not numpy.isfinite(array).all():
                raise UsageError(f"calibration feed {i}: {name} holds NaN or Inf.")
    return feeds
