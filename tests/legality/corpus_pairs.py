"""Q/DQ that is legal and slow: what benchmarks here and NVIDIA's placement rules say of it."""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.legality.building import Known, known, model, node, target, weight
from tests.legality.corpus_types import F

X86 = dataclasses.replace(target(engine="onnxruntime_cpu"), architecture="x86_64")
ARM = dataclasses.replace(target(engine="onnxruntime_cpu"), architecture="aarch64")
MEASURED = "benchmarks/peer_arms/artefacts.py"
SLOWER = "with signed ones it was 2.7 times slower on AVX512-VNNI"
TYPES_10_11 = "NVIDIA TensorRT 10.11, Working with Quantized Types"
WEIGHT_ONLY = "Weight-only quantization is supported for INT4"
PLACED = "NVIDIA TensorRT, Q/DQ placement, figure on suboptimal fusions"
DIVIDED = "y = saturate(round(x / y_scale) + y_zero_point)"
RESIDUAL = "The extra pair of Q/DQ operators (highlighted with a glowing-green border) forces the separation"


def _pair(kind: str, scale: float = 0.1) -> object:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    weights = [weight("s", scale), weight("z", 0, kind)]
    return model(nodes, [("x", F, (2, 8))], [("y", F, (2, 8))], weights)


def _added(rounded: bool) -> object:
    """conv(x) + x, both in int8; the convolution rounded first, or not."""
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("DequantizeLinear", "w s z", "dw"),
        node("Conv", "d dw", "c", kernel_shape=[1, 1]),
        *([node("QuantizeLinear", "c s z", "qc"), node("DequantizeLinear", "qc s z", "dc")] if rounded else []),
        node("Add", f"{'dc' if rounded else 'c'} d", "y"),
    ]  # fmt: skip
    weights = [
        weight("s", 0.1),
        weight("z", 0, "int8"),
        weight("w", [[[[3]], [[1]]], [[[2]], [[5]]]], "int8"),
    ]
    return model(nodes, [("x", F, (1, 2, 4, 4))], [("y", F, (1, 2, 4, 4))], weights)


def _weights(kind: str, block: int) -> object:
    """x w, the weight alone in integers: in blocks of 64 along K, or a scale a column."""
    draw = np.random.default_rng(3)
    q = draw.integers(-7, 8, (128, 8)).astype(
        helper.tensor_dtype_to_np_dtype(getattr(TensorProto, kind))
    )
    scales = draw.uniform(0.01, 0.02, (128 // block, 8) if block else 8)
    how = {"axis": 0, "block_size": block} if block else {"axis": 1}
    nodes = [node("DequantizeLinear", "q s", "w", **how), node("MatMul", "x w", "y")]
    held = [numpy_helper.from_array(q, "q"), weight("s", scales)]
    return model(nodes, [("x", F, (2, 128))], [("y", F, (2, 8))], held, opset=21, ir=10)


PAIRS: tuple[Known, ...] = (
    known("int8_activations_on_x86", _pair("int8"), MEASURED, SLOWER, "qdq_signs warning", target=X86, fixed=True),
    known("uint8_activations_on_x86", _pair("uint8"), MEASURED, SLOWER, target=X86),
    known("scale_of_zero", _pair("uint8", 0.0), "ONNX QuantizeLinear-13", DIVIDED, "qdq_scales error", target=X86),
    known("int8_activations_on_arm", _pair("int8"), MEASURED, SLOWER, target=ARM),
    known("rounded_before_the_addition", _added(True), PLACED, RESIDUAL, "qdq_residual warning"),
    known("added_before_it_is_rounded", _added(False), PLACED, RESIDUAL),
    known("int4_weights_in_blocks", _weights("INT4", 64), TYPES_10_11, WEIGHT_ONLY),
    known("int8_weights_alone", _weights("INT8", 0), TYPES_10_11, WEIGHT_ONLY, "qdq warning"),
)  # fmt: skip
