"""Apply a recipe to a graph: the verb."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from accel import arrays, catalog, graph
from accel.errors import CandidateBroken, UsageError
from accel.protocols import Quantized
from accel.values import Model, Options, QuantStyle


def quantize(
    model: Model,
    recipe: str,
    calibration: Path | None,
    style: QuantStyle,
    options: Options,
    out: Path,
) -> Quantized:
    """The graph that a recipe makes of a model, in the folder `out`; ports stay as they are.

    `calibration` is an .npz of feeds. Raises UsageError where a recipe needs it and it is absent,
    CandidateBroken when the graph cannot be treated or came out with other ports."""
    member = catalog.load("recipes", recipe)
    if member.NEEDS_CALIBRATION and calibration is None:
        raise UsageError(
            f"Recipe {recipe!r} needs calibration data and never invents it. "
            f"Add calibration() to the workload, or give --data x.npz."
        )
    feeds = arrays.load(calibration) if member.NEEDS_CALIBRATION and calibration else None
    out.mkdir(parents=True, exist_ok=True)
    made: Quantized = member.apply(model, feeds, style, options, out)
    described = graph.describe(made.model.path, made.model.trail)
    for kind in ("inputs", "outputs"):
        before = [p.name for p in getattr(model, kind)]
        after = [p.name for p in getattr(described, kind)]
        if before != after:
            raise CandidateBroken(f"{recipe} changed the {kind}: {before} became {after}")
    # a pass may rename the symbols of the axes; the root's are the workload's own
    kept = dataclasses.replace(made.model, inputs=model.inputs, outputs=model.outputs)
    return dataclasses.replace(made, model=kept)
