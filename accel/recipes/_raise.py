"""A newer opset for graphs that are too old for Q/DQ nodes with an axis, or with blocks."""

from __future__ import annotations

from typing import Any

from accel import flatten
from accel.errors import CandidateBroken
from accel.plain import flat, shown

PER_CHANNEL_OPSET = 13  # QuantizeLinear and DequantizeLinear take an axis from here on (ONNX)


def raised(proto: Any, least: int = PER_CHANNEL_OPSET) -> Any:
    """The graph at an opset whose Q/DQ nodes are as they have to be: itself, where it is at one already.

    ONNX's converter loses functions: they are inlined first. Kernels, too, whose bodies are of the old opset;
    accel.steps.swap puts them in again. Raises CandidateBroken where onnx cannot do either."""
    import onnx

    opset = _opset(proto)
    if opset >= least:
        return proto
    found = f"opset {opset} is below {least}, which Q/DQ needs, and it cannot be converted"
    proto = flatten.inlined(proto, keep="")
    if left := flatten.called(proto, keep=""):
        names = shown(", ".join(left), keep="")
        raise CandidateBroken(f"{found}: onnx cannot inline the model's functions {names}")
    try:
        return onnx.version_converter.convert_version(proto, least)
    except Exception as error:  # the converter raises whatever its C++ does
        raise CandidateBroken(f"{found}: {flat(error)}") from None


def _opset(proto: Any) -> int:
    """The version of the standard operators that a graph is written in."""
    return max(
        (int(o.version) for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1
    )
