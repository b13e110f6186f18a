"""Element types, quantization, ranges, versions, files and profiles."""

from __future__ import annotations

import numpy as np

from tests.legality.building import (
    I32,
    I64,
    U8,
    D,
    F,
    H,
    Known,
    drawn,
    known,
    model,
    node,
    target,
    weight,
)

X, Y = ("x", F, [2, 8]), ("y", F, [2, 8])

MIXED_ADD = model(
    [node("Cast", "x", "h", to=H), node("Add", "h b", "s"), node("Relu", "s", "y")],
    [X],
    [Y],
    [drawn("b", 8)],
)
MIXED_CONCAT = model(
    [node("Shape", "x", "s"), node("Concat", "s n", "y", axis=0)],
    [X],
    [("y", I64, [3])],
    [weight("n", [8], "int32")],
)
MIXED_MATMUL = model(
    [node("Cast", "x", "h", to=H), node("MatMul", "h w", "y")], [X], [Y], [drawn("w", 8, 8)]
)
NORM_MIXED = model(
    [node("BatchNormalization", "x s b m v", "y")],
    [("x", H, [1, 4, 2, 2])],
    [("y", H, [1, 4, 2, 2])],
    [weight(n, np.ones(4)) for n in "sbmv"],
)
LAYER_HALF = model(
    [node("LayerNormalization", "x s", "y")],
    [("x", H, [2, 8])],
    [("y", H, [2, 8])],
    [weight("s", np.ones(8), "float16")],
)
POW_INTEGER = model([node("Pow", "x two", "y")], [X], [Y], [weight("two", 2, "int64")])
DOUBLES = model(
    [node("Mul", "x w", "m"), node("Cast", "m", "y", to=F)],
    [("x", D, [2, 8])],
    [Y],
    [drawn("w", 8, dtype="float64")],
)
DOUBLE_LARGE = model(
    [node("Mul", "x w", "y")],
    [("x", D, [2])],
    [("y", D, [2])],
    [weight("w", [1e300, 1], "float64")],
)
UINT8_INSIDE = model([node("Cast", "x", "u", to=U8), node("Cast", "u", "y", to=F)], [X], [Y])
UINT8_RAW = model(
    [node("Gather", "t x", "g"), node("Identity", "x", "z"), node("Relu", "g", "y")],
    [
        ("x", U8, [2]),
    ],
    [("y", F, [2, 4]), ("z", U8, [2])],
    [drawn("t", 4, 4)],
)
UINT8_PORT = model([node("Cast", "x", "y", to=F)], [("x", U8, [2, 8])], [Y])
INT64_LARGE = model(
    [node("Add", "x w", "y")],
    [("x", I64, [2])],
    [("y", I64, [2])],
    [weight("w", [2**40, 1], "int64")],
)


def _qdq(
    zero: int = 0,
    kind: str = "int8",
    scale: object = 0.1,
    axis: int | None = None,
    shape: tuple[int, ...] = (2, 8),
) -> object:
    more = {} if axis is None else {"axis": axis}
    zeros = np.full(np.shape(scale), zero)
    pair = [
        node("QuantizeLinear", "x s z", "q", **more),
        node("DequantizeLinear", "q s z", "y", **more),
    ]
    ports = [("x", F, shape)], [("y", F, shape)]
    return model(pair, *ports, [weight("s", scale), weight("z", zeros, kind)])


def _conv(axis: int, channels: int = 4) -> object:
    """A convolution with both operands quantized, weights [4, 3, 1, 1] per channel of `axis`."""
    size = (4, 3)[axis]
    pair = [node("QuantizeLinear", "x sx zx", "q"), node("DequantizeLinear", "q sx zx", "d")]
    deq = node("DequantizeLinear", "w sw zw", "dw", axis=axis)
    return model(
        [*pair, deq, node("Conv", "d dw", "y", kernel_shape=[1, 1])],
        [("x", F, [1, 3, 4, 4])],
        [("y", F, [1, 4, 4, 4])],
        [
            weight("sx", 0.1),
            weight("zx", 0, "int8"),
            weight("w", np.ones((4, 3, 1, 1)), "int8"),
            weight("sw", np.full(size, 0.1)),
            weight("zw", np.zeros(size), "int8"),
        ],
    )


def _residual(both: bool) -> object:
    """x + relu(x), quantized again; the skip branch quantized too, or not."""
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("Relu", "d", "r"),
        node("Add", f"r {'d' if both else 'x'}", "a"),
        node("QuantizeLinear", "a s z", "qa"),
        node("DequantizeLinear", "qa s z", "y"),
    ]
    return model(nodes, [X], [Y], [weight("s", 0.1), weight("z", 0, "int8")])


BIAS_INT32 = model(
    [
        node("DequantizeLinear", "w s z", "dw", axis=0),
        node("QuantizeLinear", "x sx zx", "q"),
        node("DequantizeLinear", "q sx zx", "d"),
        node("DequantizeLinear", "b sb", "db", axis=0),
        node("Conv", "d dw db", "y", kernel_shape=[1, 1]),
    ],
    [("x", F, [1, 3, 4, 4])],
    [("y", F, [1, 4, 4, 4])],
    [
        weight("w", np.arange(12).reshape(4, 3, 1, 1), "int8"),
        weight("s", [0.1, 0.2, 0.3, 0.4]),
        weight("z", np.zeros(4), "int8"),
        weight("sx", 0.1),
        weight("zx", 0, "int8"),
        weight("b", [1000, -2000, 3, 0], "int32"),
        weight("sb", [0.01, 0.02, 0.03, 0.04]),
    ],
)
HALF_QUANTIZED = model(
    [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "d"),
        node("MatMul", "d w", "y"),
    ],
    [X],
    [Y],
    [weight("s", 0.1), weight("z", 0, "int8"), drawn("w", 8, 8)],
)
QUANTIZED_RELU = model(
    [node("QuantizeLinear", "x s z", "q"), node("MatMulInteger", "q w", "y")],
    [X],
    [("y", I32, [2, 8])],
    [weight("s", 0.1), weight("z", 0, "int8"), weight("w", np.ones((8, 8)), "int8")],
)
NORM_HALF = model(
    [
        node("ReduceMean", "x", "m", axes=[-1]),
        node("Sub", "x m", "c"),
        node("Pow", "c two", "p"),
        node("ReduceMean", "p", "v", axes=[-1]),
        node("Sqrt", "v", "d"),
        node("Div", "c d", "y"),
    ],
    [("x", H, [2, 8])],
    [("y", H, [2, 8])],
    [weight("two", 2, "float16")],
)
HALF_OVERFLOWN = model(
    [node("Mul", "x w", "y")],
    [("x", H, [2])],
    [("y", H, [2])],
    [weight("w", [np.inf, 1], "float16")],
)
TWICE = model([node("Relu", "x", "y", name="a"), node("Abs", "x", "y", name="b")], [X], [Y])
SAME_NAME = model([node("Relu", "x", "r", name="a"), node("Abs", "r", "y", name="a")], [X], [Y])
OPSET_22 = model([node("Relu", "x", "y")], [X], [Y], opset=22, ir=10)
OPSET_25 = model([node("Relu", "x", "y")], [X], [Y], opset=25, ir=13)
OPSET_25_NEW_IR = model([node("Relu", "x", "y")], [X], [Y], opset=17, ir=13)
OPEN = model([node("Relu", "x", "y")], [("x", F, ["batch", 8])], [("y", F, ["batch", 8])])
LARGE = model(
    [node("MatMul", "x w", "y")], [("x", F, [1, 512])], [("y", F, [1, 512])], [drawn("w", 512, 512)]
)
EMPTY = model(
    [node("Concat", "x e", "y", axis=1), node("Relu", "e", "z")],
    [X],
    [Y, ("z", F, [2, 0])],
    [weight("e", np.zeros((2, 0)))],
)

TYPES: tuple[Known, ...] = (
    known("add_half_float", MIXED_ADD, "microsoft/onnxruntime#15241", "Type parameter (T) of Optype (Add) bound to different types", "typed error", "valid error", fixed=True),
    known("concat_int64_int32", MIXED_CONCAT, "NVIDIA/TensorRT#4268", "concat input tensors 0 and 3 have incompatible types Int64 and Int32", "typed error", fixed=True),
    known("matmul_half_float", MIXED_MATMUL, "NVIDIA/TensorRT#577", "Assertion failed: inputA->getType() == inputB->getType()", "typed error", "valid error", fixed=True),
    known("pow_integer_early", POW_INTEGER, "docs/Changelog.md 10.8", "Added support for `Pow` ops with integer-typed exponent values", "typed error", version="10.3", fixed=True),
    known("pow_integer", POW_INTEGER, "docs/Changelog.md 10.8", "Added support for `Pow` ops with integer-typed exponent values"),
    known("norm_mixed_early", NORM_MIXED, "docs/Changelog.md 10.7", "Added support for parsing mixed-precision `BatchNormalization` nodes in strongly-typed mode", "typed error", version="10.3"),
    known("norm_mixed", NORM_MIXED, "docs/Changelog.md 10.7", "Added support for parsing mixed-precision `BatchNormalization` nodes in strongly-typed mode"),
    known("layer_norm_in_half", LAYER_HALF, "NVIDIA/TensorRT#4493", "layernorm fp16, The accuracy is still insufficient", "fp16_range note"),
    known("double", DOUBLES, "onnx/onnx-tensorrt#501", "Found unsupported datatype (11) when importing initializer", "dtypes error", fixed=True),
    known("double_too_large", DOUBLE_LARGE, "docs/operators.md 10.15", "clamping values to `+-FLT_MAX` if necessary", "dtypes error"),
    known("uint8_inside", UINT8_INSIDE, "NVIDIA/TensorRT#2809", "TensorRT does not support UINT8 types for intermediate tensors!", "dtypes error"),
    known("uint8_without_cast", UINT8_RAW, "onnx/onnx-tensorrt#400", "Unsupported ONNX data type: UINT8 (2)", "dtypes error"),
    known("uint8_input", UINT8_PORT, "docs/Changelog.md 8.5", "Added support for importing ONNX networks with `UINT8` I/O types"),
    known("int64_large", INT64_LARGE, "NVIDIA/TensorRT#1415", "One or more weights outside the range of INT32 was clamped (8; 9.0 has INT64)"),
    known("zero_point", _qdq(3), "NVIDIA/TensorRT#2774", "TRT only supports symmetric quantization - zeroPt must be all zeros", "qdq error"),
    known("zero_point_uint8", _qdq(0, "uint8"), "NVIDIA/TensorRT#4698", "kENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA", "qdq error"),
    known("scale_zero", _qdq(scale=0.0), "NVIDIA/TensorRT#2498", "Scale coefficients must all be positive", "qdq error"),
    known("scale_negative", _qdq(scale=-0.1), "onnx/onnx-tensorrt#764", "Scale coefficients must all be positive", "qdq error"),
    known("scales_count", _qdq(scale=[0.1] * 3, axis=1), "NVIDIA/TensorRT#994", "Assertion failed: K == scale.count()", "qdq error"),
    known("bias_int32", BIAS_INT32, "onnx/onnx-tensorrt importers, 10.1 GA", "TensorRT only allows FP8, INT8, and INT4 quantization. The requested quantization type is", "qdq error", fixed=True),
    known("symmetric", _qdq(), "NVIDIA/TensorRT#1421", "we only support symmetric and uniform so far"),
    known("conv_scales_wrong_axis", _conv(1), "NVIDIA/TensorRT#994", "shift weights has count 64 but 3 was expected", "qdq error", "qdq_weights warning"),
    known("conv_scales", _conv(0), "NVIDIA/TensorRT#994", "shift weights has count 64 but 3 was expected"),
    known("residual_one_branch", _residual(False), "NVIDIA/TensorRT#1992", "you need to add Q/DQ pair in the residual add branch", "qdq warning"),
    known("residual_both_branches", _residual(True), "NVIDIA/TensorRT#1992", "you need to add Q/DQ pair in the residual add branch"),
    known("half_quantized", HALF_QUANTIZED, "NVIDIA/TensorRT#3861", "rules for correct Q/DQ node placement", "qdq warning"),
    known("integer_operator", QUANTIZED_RELU, "onnx/onnx-tensorrt#623", "we only support DequantizeLinear and QuantizeLinear", "operators error", "qdq error"),
    known("norm_in_half", NORM_HALF, "pytorch/TensorRT#4061", "Running layernorm after self-attention with FP16 Reduce or Pow may cause overflow", "fp16_range warning"),
    known("half_overflown", HALF_OVERFLOWN, "NVIDIA/TensorRT#3101", "Detected finite FP32 values which would overflow in FP16", "fp16_range error"),
    known("made_twice", TWICE, "onnx/onnx-tensorrt#949", "Output name is not unique", "valid error"),
    known("named_alike",
        SAME_NAME,
        "ONNX Runtime 1.32, as seen here",
        "This is an invalid model. Error: two nodes with same node name (a).",
        "valid error",
        fixed=True,
    ),
    known("opset_between_lists", OPSET_22, "docs/operators.md 10.0", "in the inclusive range of opset 9 to opset 20", "opset unknown", version="10.3", fixed=True),
    known("opset_too_new", OPSET_25, "docs/operators.md 10.15", "in the inclusive range of opset 9 to opset 24", "opset error", "opset warning", fixed=True),
    known("opset_25_in_11_5", OPSET_25, "release notes v11.5", "Added support for ONNX opset 25", version="11.5"),
    known("ir_too_new", OPSET_25_NEW_IR, "onnx/onnx-tensorrt#479", "ONNX model has a newer ir_version (0.0.6) than this parser was built against (0.0.5)", "opset warning", fixed=True),
    known("no_profile", OPEN, "NVIDIA/TensorRT#1116", "Network has dynamic or shape inputs, but no optimization profile has been defined.", "dynamic unknown", requests=False),
    known("profile", OPEN, "NVIDIA/TensorRT#1116", "Network has dynamic or shape inputs, but no optimization profile has been defined."),
    known("too_large", LARGE, "NVIDIA/TensorRT#4258", "Requested amount of GPU memory (15485030400 bytes) could not be allocated.", "memory error", target=target(memory_bytes=1_000_000)),
    known("large_enough", LARGE, "NVIDIA/TensorRT#4258", "Requested amount of GPU memory (15485030400 bytes) could not be allocated.", target=target(memory_bytes=8_000_000)),
    known("empty", EMPTY, "docs/Changelog.md 8.4", "Fixed misc issues when dealing with empty tensors", "empty warning"),
)  # fmt: skip
