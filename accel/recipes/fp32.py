"""fp32: the graph cleaned up, with the transformer fusions or without."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accel import graph
from accel.protocols import Quantized
from accel.recipes import _clean, _fuse
from accel.values import Feed, Model, Options, QuantStyle

NEEDS_CALIBRATION = False
STANDARD = {"openvino", "tensorrt"}  # read no operators of ONNX Runtime's own


def variants(style: QuantStyle) -> tuple[Options, ...]:
    """Cleaned up alone; and fused, where the style is one that reads ONNX Runtime's own operators."""
    return ({},) if STANDARD & set(style.operators) else ({"fuse": True}, {})


def apply(
    model: Model,
    calibration: Iterable[Feed] | None,
    style: QuantStyle,
    options: Options,
    out: Path,
) -> Quantized:
    """`clean: False` leaves a graph that was made elsewhere as it is.

    Raises CandidateBroken when there is nothing to fuse."""
    proto = graph.dense(model.path)
    facts: dict[str, Any] = {}
    if options.get("fuse"):
        proto, found = _fuse.fused(proto)
        facts |= found
    if options.get("clean", True):
        proto, facts["cleaned"] = _clean.clean(proto)
    path = out / "model.onnx"
    graph.save(proto, path)
    own = _fuse.private(proto)
    line = ", ".join(["fp32", *(f"{k} {v}" for k, v in facts.items())])
    described = graph.describe(path, (*model.trail, line))
    return Quantized(described, facts, not own, "onnxruntime" if own else "")
