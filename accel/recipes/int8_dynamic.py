"""int8_dynamic: int8 weights, activations quantized at run time by their own range; no data needed.

y = (q(x) . q(W)) * s_x * s_W, with s_x from each tensor's min and max as it passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onnxruntime.quantization import QuantType, quantize_dynamic

from accel import graph
from accel.errors import CandidateBroken
from accel.protocols import Quantized
from accel.recipes import _fuse, _taken
from accel.recipes._quiet import opened, quiet
from accel.values import Feed, Model, Options, QuantStyle

NEEDS_CALIBRATION = False
TOOL = "ONNX Runtime's quantizer"
FLOAT = 1  # onnx.TensorProto.FLOAT: the type of tensors that shape inference cannot name


def variants(style: QuantStyle) -> tuple[Options, ...]:
    """Fused first: DynamicQuantizeMatMul and QAttention are what is quick."""
    return ({"fuse": True}, {})


def apply(
    model: Model,
    calibration: Iterable[Feed] | None,
    style: QuantStyle,
    options: Options,
    out: Path,
) -> Quantized:
    """Raises CandidateBroken when there is nothing to fuse or to quantize, or for signed or
    symmetric activations: DynamicQuantizeLinear gives uint8 with a zero point, nothing else."""
    if style.activation_signed or style.activation_symmetric:
        raise CandidateBroken(
            "int8_dynamic gives asymmetric uint8 activations; the style wants more"
        )
    proto = graph.dense(model.path)
    facts: Mapping[str, Any] = {}
    if options.get("fuse"):
        proto, facts = _fuse.fused(proto)
    _taken.refuse(proto)
    # ai.onnx's Attention would be taken for ONNX Runtime's own and come out invalid
    native = any(n.op_type == "Attention" and not n.domain for n in graph.walk(proto))
    path = out / "model.onnx"
    with quiet(TOOL):
        quantize_dynamic(
            proto,
            str(path),
            op_types_to_quantize=["MatMul", "Gemm"] if native else None,
            per_channel=style.per_channel,
            reduce_range=style.reduce_range,
            weight_type=QuantType.QInt8 if style.weight_signed else QuantType.QUInt8,
            extra_options={"DefaultTensorType": FLOAT, "WeightSymmetric": style.weight_symmetric},
        )
    made = graph.operators(opened(TOOL, path))
    kinds = ("MatMulInteger", "ConvInteger", "QAttention", "DynamicQuantizeMatMul")
    count = sum(n for name, n in made.items() if name.rpartition(".")[2] in kinds)
    if not count:
        raise CandidateBroken(
            "nothing to quantize: no MatMul, Gemm, Conv or Attention with weights"
        )
    line = f"int8_dynamic {count} operators"
    described = graph.describe(path, (*model.trail, *facts.values(), line))
    return Quantized(described, {**facts, "int8": count}, portable=False, only="onnxruntime_cpu")
