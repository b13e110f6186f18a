"""Names that ONNX Runtime's quantizer gives to what it adds. It does not look whether one is taken: a
constant v_scale of the graph's own becomes the scale of the value v, and the numbers come out wrong.
"""

from __future__ import annotations

from typing import Any

from accel.errors import CandidateBroken
from accel.qdq import order

TAILS = (  # onnxruntime/quantization: quant_utils.py, onnx_quantizer.py, qdq_quantizer.py, calibrate.py (1.32)
    "_scale", "_zero_point", "_quantized", "_quant", "_QuantizeLinear", "_QuantizeLinear_Input",
    "_QuantizeLinear_Output", "_DequantizeLinear", "_DequantizeLinear_Output", "_ReduceMin", "_ReduceMax",
    "_ReduceMin_Reshape", "_ReduceMax_Reshape", "_output_quantized",
)  # fmt: skip


def refuse(proto: Any) -> None:
    """Raise CandidateBroken for a graph that has a name, and the same with such a tail."""
    names = set(order.names(proto))
    for name in sorted(names - {""}):
        if taken := next((name + tail for tail in TAILS if name + tail in names), ""):
            raise CandidateBroken(
                f"{taken!r} stands beside {name!r} in this graph: ONNX Runtime's quantizer would take "
                "it for one of its own and compute something else. Rename it, or take int8_mixed"
            )
