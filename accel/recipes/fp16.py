"""fp16: float16 written into the graph, where measured values fit; the rest stays float32.

float16 holds 65504 at most and 2^-24 at least (IEEE 754). A node stays float32 where

    max |v| > 65504 / 4 or max |v| < 2^-14   for a value v that it reads or makes, over the calibration data
    a weight of it would vanish in a large part, or overflow
    it leads to an angle, an integer or a scale of Resize: of integers, float16 holds those to 2048
    it sums, squares or divides by what it squared, as the norms do that peers' users met overflowing
    its operator has no float16 in ONNX, or is not ONNX's

Inputs and outputs stay float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from accel import graph
from accel.errors import CandidateBroken
from accel.protocols import Quantized
from accel.recipes import _calibration, _float16, _fuse, _halves, _kept, _ranges
from accel.values import Feed, Model, Options, QuantStyle

NEEDS_CALIBRATION = True
MOST_FEEDS = 300
TOLD = 5  # offenders that the facts name


def variants(style: QuantStyle) -> tuple[Options, ...]:
    """With sums, squares and exponentials in float32, and with only what leaves its range; fused before,
    where ONNX Runtime has kernels of its own operators in float16."""
    plain: tuple[Options, ...] = ({"keep": "sensitive"}, {"keep": "range"})
    fused: Options = {"keep": "range", "fuse": True}
    return (fused, *plain) if "onnxruntime_cuda" in style.operators else plain


def apply(
    model: Model,
    calibration: Iterable[Feed] | None,
    style: QuantStyle,
    options: Options,
    out: Path,
) -> Quantized:
    """Raises UsageError for calibration data that is absent, empty, NaN or not for this model,
    CandidateBroken where nothing is left in float16 or the graph does not run."""
    feeds = _calibration.checked("fp16", calibration, model, MOST_FEEDS)
    proto = graph.dense(model.path)
    fusions: Mapping[str, Any] = {}
    if options.get("fuse"):
        proto, fusions = _fuse.fused(proto)
    found = _halves.read(proto)
    seen = _ranges.largest(proto, found.values, feeds, out)
    constants = _ranges.of_constants(found.constants)
    tops = {**seen, **{name: top for name, (top, _) in constants.items()}}
    sensitive = _kept.SENSITIVE if options.get("keep", "sensitive") == "sensitive" else ()
    halves, kept = _float16.judged(found, tops, _float16.vanishing(constants), sensitive)
    if not halves:
        raise CandidateBroken(
            f"nothing is left in float16: {_kept.reasons(kept)} of {len(found.nodes)} float nodes"
        )
    path = out / "model.onnx"
    graph.save(_halves.write(found, halves), path)
    offenders = sorted((n for n in tops if _float16.leaves(tops[n])), key=lambda n: -tops[n])
    facts: dict[str, Any] = {
        **fusions,
        "calibration feeds": len(feeds),
        "fp16": f"{len(halves)} of {len(found.nodes)} nodes",
        "kept in fp32": _kept.reasons(kept),
        "out of range": ", ".join(f"{n} {tops[n]:.3g}" for n in offenders[:TOLD]) or "nothing",
    }
    line = f"fp16 {facts['fp16']} on {len(feeds)} feeds; kept in fp32: {facts['kept in fp32']}"
    own = _fuse.private(proto)
    described = graph.describe(path, (*model.trail, line))
    return Quantized(described, facts, not own, "onnxruntime" if own else "")
