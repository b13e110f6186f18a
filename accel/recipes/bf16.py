"""bf16: the fp32 graph; a runtime's named hint carries the precision, so it is not portable."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from accel import graph
from accel.protocols import Quantized
from accel.values import Feed, Model, Options, QuantStyle

NEEDS_CALIBRATION = False


def variants(style: QuantStyle) -> tuple[Options, ...]:
    """One."""
    return ({},)


def apply(
    model: Model,
    calibration: Iterable[Feed] | None,
    style: QuantStyle,
    options: Options,
    out: Path,
) -> Quantized:
    """The same graph."""
    path = out / "model.onnx"
    graph.copy(model.path, path)
    described = graph.describe(path, (*model.trail, "bf16 by the runtime's hint"))
    return Quantized(described, {"hint": "bf16"}, portable=False, only="openvino")
