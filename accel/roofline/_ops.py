"""Operations of every other operator: so many an element of its output, or of its input.

An elementary function (exp, erf, tanh, a root) counts as one operation, as do a comparison and a
cast: no machine does better, and a floor must not be too high. Operators that only move, choose
or describe values have none. An operator that stands in no table is unknown, never free.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from accel.roofline._products import MS, PRODUCTS, SOFTMAX
from accel.roofline._site import Site, Unknown

ONE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor "
    "Cast CastLike Ceil Cos Cosh Div Equal Erf Exp Floor Greater GreaterOrEqual IsInf IsNaN Less "
    "LessOrEqual Log Mod Mul Neg Not Or Pow Reciprocal Relu Round Sign Sin Sinh Sqrt Sub Tan Tanh "
    "Where Xor"
)
MOVED = (
    "BitCast Compress Concat Constant ConstantOfShape DepthToSpace Expand EyeLike Flatten Gather "
    "GatherElements GatherND Identity NonZero OneHot Pad Range Reshape ReverseSequence Scatter ScatterElements "
    "ScatterND Shape Size Slice SpaceToDepth Split Squeeze TensorScatter Tile Transpose Trilu Unsqueeze Dropout"
)
NORM = 7  # mean; difference; square and sum; times the root; times gamma; plus beta
# An output's element. The algebra stands beside each.
OF_OUTPUT: Mapping[str, int] = {
    **dict.fromkeys(ONE.split(), 1),
    **dict.fromkeys(MOVED.split(), 0),
    "BatchNormalization": 2,  # x a + b, its four vectors folded into two
    "Clip": 2,
    "DequantizeLinear": 2,  # (q - z) s
    "QuantizeLinear": 3,  # round(x / s) + z
    "DynamicQuantizeLinear": 5,  # the same, after a minimum and a maximum
    "Elu": 3,  # exp(x) - 1, times alpha, or x
    "Celu": 4,
    "Selu": 4,
    "ThresholdedRelu": 1,
    "LeakyRelu": 2,  # a product and a choice
    "PRelu": 2,
    "Sigmoid": 3,  # 1 / (1 + exp(-x)), the sign in the exponential
    "HardSigmoid": 4,  # a x + b, clipped
    "HardSwish": 5,
    "Softplus": 3,
    "Softsign": 3,
    "Mish": 5,  # x tanh(log(1 + exp(x)))
    "Swish": 4,
    "Gelu": 5,  # 0.5 x (1 + erf(x / sqrt 2))
    "Softmax": SOFTMAX,
    "LogSoftmax": SOFTMAX,
    "Hardmax": 1,
    "LayerNormalization": NORM,
    "InstanceNormalization": NORM,
    "GroupNormalization": NORM,
    "MeanVarianceNormalization": NORM - 2,
    "RMSNormalization": 4,  # square and sum; times the root; times gamma
    "SimplifiedLayerNormalization": 4,  # ONNX Runtime keeps it in ONNX's own domain
    "RotaryEmbedding": 3,  # two products and a sum
    "CumProd": 1,
    "CumSum": 1,
    "Shrink": 2,
    MS + "Gelu": 5,
    MS + "BiasGelu": 6,
    MS + "FastGelu": 8,  # 0.5 x (1 + tanh(x (a + b x^2)))
    MS + "QuickGelu": 5,
    MS + "SkipLayerNormalization": NORM + 1,
    MS + "SkipSimplifiedLayerNormalization": 5,
    MS + "EmbedLayerNormalization": NORM + 2,
    MS + "QEmbedLayerNormalization": NORM + 2,
}
# An input's element.
OF_INPUT: Mapping[str, int] = {
    "ArgMax": 1,
    "ArgMin": 1,
    "GlobalAveragePool": 1,
    "GlobalMaxPool": 1,
    "LpNormalization": 3,
    "ReduceL1": 2,
    "ReduceL2": 2,
    "ReduceLogSum": 1,
    "ReduceLogSumExp": 2,
    "ReduceMax": 1,
    "ReduceMean": 1,
    "ReduceMin": 1,
    "ReduceProd": 1,
    "ReduceSum": 1,
    "ReduceSumSquare": 2,
    "TopK": 1,  # it must look at each
}
SAMPLED = {"nearest": 0, "linear": 9, "bilinear": 9}  # of a plane: three such lines
RESIZED = {"nearest": 0, "linear": 3, "cubic": 7}  # the last axis alone: a + t (b - a); four taps


def operations(site: Site) -> int:
    """Of one run of a node. Raises Unknown for what is in no table, or has no known size."""
    if site.operator in PRODUCTS:
        return PRODUCTS[site.operator](site)
    if site.operator in OF_OUTPUT:
        each = OF_OUTPUT[site.operator]
        return each * site.given() if each else 0
    if site.operator in OF_INPUT:
        return OF_INPUT[site.operator] * site.taken()
    if site.operator in ("Max", "Min", "Sum", "Mean"):
        return max(1, len(site.takes) - 1) * site.given()
    if site.operator in ("MaxPool", "AveragePool", "LpPool"):
        taps: int = math.prod(site.attributes["kernel_shape"])
        return site.given() * taps
    if site.operator in ("Resize", "Upsample"):
        return site.given() * RESIZED[site.attributes.get("mode", b"nearest").decode()]
    if site.operator == "GridSample" and len(site.dims()) == 4:
        return site.given() * SAMPLED[site.attributes.get("mode", b"linear").decode()]
    if site.operator == "LRN":
        return site.given() * (2 * int(site.attributes["size"]) + 3)
    raise Unknown("what it costs is in no table here")
