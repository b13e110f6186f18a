"""Calibration data that a recipe needs: there, of the model's ports, and numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy

from accel import arrays
from accel.calibration.collect import collect
from accel.errors import UsageError
from accel.sketch import Sketch
from accel.values import Feed, Model


def sketches(
    recipe: str, calibration: Iterable[Feed] | Mapping[str, Sketch] | None, model: Model
) -> tuple[Mapping[str, Sketch], dict[str, int]]:
    """What is known of the values of this very graph: as given, else from one pass over the feeds, with
    a fact that says how many.

    Raises what `checked` does."""
    if isinstance(calibration, Mapping):
        return calibration, {}
    seen = collect(model.path, checked(recipe, calibration, model))
    return seen.sketches, {"calibration feeds": seen.feeds}


def checked(
    recipe: str, calibration: Iterable[Feed] | None, model: Model, most: int | None = None
) -> list[Feed]:
    """The feeds, `most` of them at most: none beyond is read. Raises UsageError for data that is absent, empty,
    NaN, Inf or not for this model."""
    feeds = list(itertools.islice(calibration or (), most))
    if not feeds:
        raise UsageError(
            f"{recipe} needs calibration data and never invents it. Add calibration() to the "
            "workload, or give --data x.npz."
        )
    for i, feed in enumerate(feeds):
        arrays.fit(feed, model.inputs, f"calibration feed {i}")
        for name, array in feed.items():
            if array.dtype.kind == "f" and not numpy.isfinite(array).all():
                raise UsageError(f"calibration feed {i}: {name!r} holds NaN or Inf.")
    return feeds
