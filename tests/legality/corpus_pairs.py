"""Q/DQ that is legal and slow: what benchmarks here and NVIDIA's placement rules say of it."""

from __future__ import annotations

import dataclasses

from tests.legality.building import Known, known, model, node, target, weight
from tests.legality.corpus_types import F

X86 = dataclasses.replace(target(engine="onnxruntime_cpu"), architecture="x86_64")
ARM = dataclasses.replace(target(engine="onnxruntime_cpu"), architecture="aarch64")
MEASURED = "benchmarks/peer_arms/artefacts.py"
SLOWER = "with signed ones it was 2.7 times slower on AVX512-VNNI"
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


PAIRS: tuple[Known, ...] = (
    known("int8_activations_on_x86", _pair("int8"), MEASURED, SLOWER, "qdq_signs warning", target=X86, fixed=True),
    known("uint8_activations_on_x86", _pair("uint8"), MEASURED, SLOWER, target=X86),
    known("scale_of_zero", _pair("uint8", 0.0), "ONNX QuantizeLinear-13", DIVIDED, "qdq_scales error", target=X86),
    known("int8_activations_on_arm", _pair("int8"), MEASURED, SLOWER, target=ARM),
    known("rounded_before_the_addition", _added(True), PLACED, RESIDUAL, "qdq_residual warning"),
    known("added_before_it_is_rounded", _added(False), PLACED, RESIDUAL),
)  # fmt: skip
