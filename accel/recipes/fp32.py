"""fp32: the graph as it is, or with the transformer fusions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from accel import graph
from accel.errors import CandidateBroken
from accel.protocols import Quantized
from accel.recipes import _fuse
from accel.values import Feed, Model, Options, QuantStyle

NEEDS_CALIBRATION = False


def variants(style: QuantStyle) -> tuple[Options, ...]:
    """As it is; and fused, where the style is one that reads ONNX Runtime's own operators."""
    return ({},) if "openvino" in style.operators else ({"fuse": True}, {})


def apply(
    model: Model,
    calibration: Iterable[Feed] | None,
    style: QuantStyle,
    options: Options,
    out: Path,
) -> Quantized:
    """Raises CandidateBroken when there is nothing to fuse."""
    proto = graph.open_model(model.path)
    facts: Mapping[str, Any] = {}
    if options.get("fuse"):
        if not _fuse.is_transformer(proto):
            raise CandidateBroken("nothing to fuse: no attention with layer norms in this graph")
        proto, facts = _fuse.fuse(proto)
    path = out / "model.onnx"
    graph.save(proto, path)
    own = _fuse.private(proto)
    line = f"fp32 {facts.get('fused', 'as exported')}"
    described = graph.describe(path, (*model.trail, line))
    return Quantized(described, facts, not own, "onnxruntime_cpu" if own else "")
