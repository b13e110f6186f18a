"""Apply a recipe to a graph: the verb."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accel import arrays, catalog, graph
from accel.errors import CandidateBroken, UsageError
from accel.protocols import Calibration, Quantized
from accel.steps.calibrate import calibrate
from accel.values import Model, Options, QuantStyle


def quantize(
    model: Model,
    recipe: str,
    calibration: str | Path | None,
    style: QuantStyle,
    options: Options,
    out: str | Path,
    calibrated: Calibration | None = None,
    noise: Sequence[str] = (),
) -> Quantized:
    """The graph that a recipe makes of a model, in the folder `out`; ports stay as they are.

    `calibration` is an .npz of feeds; `calibrated` what `calibrate` found in them for this very graph,
    for recipes that take that (without, it is done here). Raises UsageError where a recipe needs it and it is absent,
    CandidateBroken when the graph cannot be treated or came out with other ports."""
    member, out = catalog.load("recipes", recipe), Path(out)
    if member.NEEDS_CALIBRATION and calibration is None and calibrated is None:
        raise UsageError(
            f"Recipe {recipe!r} needs calibration data and never invents it. "
            f"Add calibration() to the workload, or give --data x.npz."
        )
    out.mkdir(parents=True, exist_ok=True)
    data: Any = None
    if getattr(member, "NEEDS_SKETCHES", False):
        from accel import sketch

        calibrated = calibrated or calibrate(model, Path(str(calibration)), out, noise=noise)
        data = sketch.read(calibrated.sketches)
    elif member.NEEDS_CALIBRATION and calibration is not None:
        data = arrays.stream(Path(calibration))  # recipes take as many as they need
    made: Quantized = member.apply(model, data, style, options, out)
    if calibrated is not None:
        told = (
            f"{calibrated.feeds} of {calibrated.offered}{', settled' if calibrated.settled else ''}"
        )
        made = dataclasses.replace(made, facts={**made.facts, "calibration feeds": told})
    described = graph.describe(made.model.path, made.model.trail)
    for kind in ("inputs", "outputs"):
        before = [p.name for p in getattr(model, kind)]
        after = [p.name for p in getattr(described, kind)]
        if before != after:
            raise CandidateBroken(f"{recipe} changed the {kind}: {before} became {after}")
    # a pass may rename the symbols of the axes; the root's are the workload's own
    kept = dataclasses.replace(made.model, inputs=model.inputs, outputs=model.outputs)
    return dataclasses.replace(made, model=kept)
