"""Operators: unsupported, too early, unknown, restricted, of other domains."""

from __future__ import annotations

import numpy as np
from onnx import helper

from tests.legality.building import I8, I64, U8, F, Known, body, known, model, node, target, weight

X, Y = ("x", F, [2, 8]), ("y", F, [2, 8])
IMAGE = ("x", F, [1, 3, 8, 8])
PADS = {"kernel_shape": [2, 2], "strides": [2, 2]}

DYNAMIC_QUANTIZE = model(
    [node("DynamicQuantizeLinear", "x", "q s z")],
    [X],
    [("q", U8, [2, 8]), ("s", F, []), ("z", U8, [])],
)
QLINEAR_CONV = model(
    [node("QLinearConv", "x s z w s z s z", "y")],
    [("x", I8, [1, 1, 4, 4])],
    [("y", I8, [1, 1, 4, 4])],
    [weight("s", 0.1), weight("z", 0, "int8"), weight("w", np.ones((1, 1, 1, 1)), "int8")],
)
CONV_INTEGER = model(
    [node("ConvInteger", "x w", "y")],
    [("x", I8, [1, 1, 4, 4])],
    [("y", 6, [1, 1, 4, 4])],
    [weight("w", np.ones((1, 1, 1, 1)), "int8")],
)
SEQUENCE = model(
    [node("SequenceEmpty", "", "s"), node("SequenceLength", "s", "n"), node("Identity", "x", "y")],
    [X],
    [("n", I64, []), Y],
)
SEQUENCE_CONSTRUCT = model(
    [node("SequenceConstruct", "x x", "s"), node("ConcatFromSequence", "s", "y", axis=0)],
    [X],
    [("y", F, [4, 8])],
)
UNIQUE = model([node("Unique", "x", "y")], [("x", F, [8])], [("y", F, ["n"])])
SUPPRESSION = model(
    [node("NonMaxSuppression", "b s m", "y")],
    [("b", F, [1, 6, 4]), ("s", F, [1, 1, 6])],
    [("y", I64, ["n", 3])],
    [weight("m", [3], "int64")],
)
NON_ZERO = model([node("NonZero", "x", "y")], [X], [("y", I64, [2, "n"])])
ATTENTION = model(
    [node("Attention", "q k v", "y")],
    [(n, F, [1, 2, 4, 8]) for n in "qkv"],
    [("y", F, [1, 2, 4, 8])],
    opset=23,
    ir=11,
)
SWISH = model([node("Swish", "x", "y")], [X], [Y], opset=24, ir=12)
EMBED = model(
    [node("EmbedLayerNormalization", "x", "y", domain="com.microsoft")],
    [X],
    [Y],
    domains=["com.microsoft"],
)
SCATTER_BEV = model([node("ScatterBEV", "x", "y", domain="custom")], [X], [Y], domains=["custom"])
OURS = {"domain": "accel.kernels", "plugin_namespace": "accel", "plugin_version": "1", "aot": 1}
KERNEL_ALONE = model(
    [node("BiasGelu", "x b", "y", **OURS)], [X, ("b", F, [8])], [Y], domains=["accel.kernels"]
)


def _kernel(**attributes: object) -> object:
    """BiasGelu as accel swap writes it: a node, and a function that stands in for it."""
    function = helper.make_function(
        "accel.kernels",
        "BiasGelu",
        ["a", "b"],
        ["c"],
        [helper.make_node("Add", ["a", "b"], ["s"]), helper.make_node("Relu", ["s"], ["c"])],
        [helper.make_opsetid("", 17)],
        list(attributes),
    )
    made = node("BiasGelu", "x b", "y", domain="accel.kernels", **attributes)
    return model([made], [X, ("b", F, [8])], [Y], domains=["accel.kernels"], functions=[function])


KERNEL_STRANGER = model([node("FlashMlp", "x", "y", **OURS)], [X], [Y], domains=["accel.kernels"])
POOL_USED = model(
    [node("MaxPool", "x", "y i", **PADS)],
    [IMAGE],
    [("y", F, [1, 3, 4, 4]), ("i", I64, [1, 3, 4, 4])],
)
POOL_UNUSED = model([node("MaxPool", "x", "y i", **PADS)], [IMAGE], [("y", F, [1, 3, 4, 4])])
CUBIC = model(
    [node("Resize", "x _ s", "y", mode="cubic")],
    [IMAGE],
    [("y", F, [1, 3, 16, 16])],
    [weight("s", [1, 1, 2, 2])],
)
LINEAR = model(
    [node("Resize", "x _ s", "y", mode="linear", nearest_mode="floor")],
    [IMAGE],
    [("y", F, [1, 3, 16, 16])],
    [weight("s", [1, 1, 2, 2])],
)


def _scatter(reduction: str) -> object:
    return model(
        [node("ScatterND", "x i u", "y", reduction=reduction)],
        [X, ("u", F, [1, 8])],
        [Y],
        [weight("i", [[0]], "int64")],
    )


TOP_K = model(
    [node("TopK", "x k", "y i")],
    [("x", F, [1, 8192])],
    [("y", F, [1, 5000]), ("i", I64, [1, 5000])],
    [weight("k", [5000], "int64")],
)
GRID = model(
    [node("GridSample", "x g", "y", mode="linear")],
    [("x", F, [1, 1, 4, 4, 4]), ("g", F, [1, 4, 4, 4, 3])],
    [("y", F, [1, 1, 4, 4, 4])],
    opset=20,
    ir=9,
)
COMPUTED_AXES = model(
    [node("ReduceMax", "x a", "y", keepdims=0)],
    [X, ("a", I64, [1])],
    [("y", F, ["n"])],
    opset=20,
    ir=9,
)
COMPUTED_SQUEEZE = model(
    [node("Squeeze", "x a", "y")], [("x", F, [1, 8]), ("a", I64, [1])], [("y", F, ["n"])]
)
LSTM = model(
    [node("LSTM", "x w r", "y", hidden_size=2, layout=1)],
    [("x", F, [1, 3, 4])],
    [("y", F, [1, 3, 1, 2])],
    [weight("w", np.ones((1, 8, 4))), weight("r", np.ones((1, 8, 2)))],
)
BIDIRECTIONAL = model(
    [
        node(
            "RNN",
            "x w r",
            "y",
            hidden_size=2,
            direction="bidirectional",
            activations=["Tanh", "Relu"],
        )
    ],
    [("x", F, [3, 1, 4])],
    [("y", F, [3, 2, 1, 2])],
    [weight("w", np.ones((2, 2, 4))), weight("r", np.ones((2, 2, 2)))],
)
ATTENTION_3D = model(
    [node("Attention", "q k v", "y", q_num_heads=2, kv_num_heads=2)],
    [(n, F, [1, 4, 16]) for n in "qkv"],
    [("y", F, [1, 4, 16])],
    opset=23,
    ir=11,
)
EYE = model([node("EyeLike", "x", "y")], [("x", F, ["n", 8])], [("y", F, ["n", 8])])
ABS_INT8 = model([node("Abs", "x", "y")], [("x", I8, [4])], [("y", I8, [4])])
TAN = model([node("Tan", "x", "y")], [X], [Y])
ARG_MAX = model([node("ArgMax", "x", "y")], [("x", I64, [2, 8])], [("y", I64, [1, 8])])
MISH = model([node("Mish", "x", "y")], [X], [Y], opset=18)
DROPOUT = model(
    [node("Dropout", "x ratio training", "y")],
    [X],
    [Y],
    [weight("ratio", 0.5), weight("training", True, "bool")],
)


def _if(
    one: tuple[int, ...], other: tuple[int, ...], same_names: bool = False, fixed: bool = False
) -> object:
    names = ("a", "a" if same_names else "b")
    branches = [
        body(
            [helper.make_node("Constant", [], [name], value=weight("", np.ones(shape)))],
            [],
            [(name, F, shape)],
        )
        for name, shape in zip(names, (one, other), strict=True)
    ]
    made = node("If", "c", "y", then_branch=branches[0], else_branch=branches[1])
    ports = [("y", F, ["n"] * max(len(one), len(other)))]
    if fixed:
        return model(
            [made, node("Relu", "x", "z")],
            [X],
            [*ports, ("z", F, [2, 8])],
            [weight("c", True, "bool")],
        )
    return model([made], [("c", 9, [])], ports)


LOOP = model(
    [
        node(
            "Loop",
            "n _ x",
            "last all",
            body=body(
                [
                    node("Add", "v v", "w"),
                    node("Identity", "go", "on"),
                    node("Identity", "w", "kept"),
                ],
                [("i", I64, []), ("go", 9, []), ("v", F, [4])],
                [("on", 9, []), ("w", F, [4]), ("kept", F, [4])],
            ),
        )
    ],
    [("n", I64, []), ("x", F, [4])],
    [("last", F, [4]), ("all", F, ["t", 4])],
)

OPERATORS: tuple[Known, ...] = (
    known("dynamic_quantize", DYNAMIC_QUANTIZE, "NVIDIA/TensorRT#3963", "could not find plugin: DynamicQuantizeLinear version: 1", "operators error"),
    known("qlinear_conv", QLINEAR_CONV, "onnx/onnx-tensorrt#560", "No importer registered for op: QLinearConv", "operators error"),
    known("conv_integer", CONV_INTEGER, "onnx/onnx-tensorrt#623", "ConvInteger support when exporting ONNX to TensorRT", "operators error"),
    known("sequence_empty", SEQUENCE, "onnx/onnx-tensorrt#1044", "(checkSequenceEmpty): UNSUPPORTED_NODE: false", "operators error"),
    known("sequence_construct", SEQUENCE_CONSTRUCT, "NVIDIA/TensorRT#3164", "could not find plugin: SequenceConstruct version: 1", "operators error"),
    known("unique", UNIQUE, "NVIDIA/TensorRT#3019", "TensorRT not support torch.unique operation", "operators error", "dynamic warning"),
    known("non_zero", NON_ZERO, "NVIDIA/TensorRT#4120", "depends on the actual data passed into the model", "dynamic warning"),
    known("attention_early", ATTENTION, "docs/Changelog.md 10.14", "Added support for the `Attention` operator", "operators error", "opset unknown", version="10.3"),
    known("attention", ATTENTION, "docs/operators.md 10.15", "Attention | Y"),
    known("swish_10", SWISH, "release notes v11.0", "Added support for Swish operator", "operators error"),
    known("swish_11", SWISH, "release notes v11.0", "Added support for Swish operator", version="11.0"),
    known("contrib", EMBED, "NVIDIA/TensorRT#1515", "could not find plugin: EmbedLayerNormalization version: 1", "plugins unknown"),
    known("custom", SCATTER_BEV, "NVIDIA-AI-IOT/CUDA-PointPillars#28", "Plugin not found, are the plugin name, version, and namespace correct?", "plugins unknown"),
    known("kernel_without_function", KERNEL_ALONE, "NVIDIA/TensorRT#1775", "Plugin not found, are the plugin name, version, and namespace correct?", "plugins error"),
    known("kernel_of_no_one", KERNEL_STRANGER, "NVIDIA/TensorRT#1278", "could not find plugin Switch version 1", "plugins error"),
    known("kernel", _kernel(plugin_namespace="accel"), "NVIDIA/TensorRT#1775", "Plugin not found, are the plugin name, version, and namespace correct?"),
    known("kernel_early", _kernel(plugin_namespace="accel"), "docs/Changelog.md 10.9", "Added support for Python AOT plugins", "plugins note", version="10.3"),
    known("kernel_without_namespace", _kernel(), "docs/Changelog.md 9.0 EA", "Added support for ONNX local functions", "plugins warning"),
    known("pool_indices", POOL_USED, "NVIDIA/TensorRT#3761", "TensorRT does not support the indices output in MaxPool!", "limits error"),
    known("pool_indices_unused", POOL_UNUSED, "NVIDIA/TensorRT#3761", "TensorRT does not support the indices output in MaxPool!", "limits error", fixed=True),
    known("resize_cubic", CUBIC, "onnx/onnx-tensorrt#694", "we do support bilinear resizes but not bicubic", "limits error"),
    known("resize_linear", LINEAR, "onnx/onnx-tensorrt#694", "we do support bilinear resizes but not bicubic"),
    known("scatter_add", _scatter("add"), "onnx/onnx-tensorrt#957", "Reduction not supported with ScatterNd in opset 16", "limits error"),
    known("scatter_none_early", _scatter("none"), "microsoft/onnxruntime#23618", "Attribute reduction is not supported.", "limits error", version="10.3", fixed=True),
    known("scatter_none", _scatter("none"), "onnx/onnx-tensorrt#1014", "Support none reduction for scatterND"),
    known("top_k", TOP_K, "NVIDIA/TensorRT#4244", "TopK 3840 limitation", "limits error"),
    known("grid_sample_5d", GRID, "NVIDIA/TensorRT#4619", "GridSample operator does not support 5D input format", "limits error"),
    known("grid_sample_5d_11_2", GRID, "release notes v11.2", "5D GridSample operators", version="11.2"),
    known("grid_sample_5d_openvino", GRID, "openvinotoolkit/openvino#37770", "The supported shape of the input data tensor is 4D.", "openvino_gaps error", target=target("", engine="openvino")),
    known("reduce_computed_axes", COMPUTED_AXES, "NVIDIA/TensorRT#3467", "trt currently doesn't support axes as inputs for reduce op", "limits error"),
    known("squeeze_computed_axes", COMPUTED_SQUEEZE, "docs/Changelog.md 10.7", "Added dynamic axes support for `Squeeze` and `Unsqueeze`", "limits error", version="10.3"),
    known("lstm_layout", LSTM, "docs/operators.md 10.15", "`layout` attribute must be 0", "limits error"),
    known("dropout_training", DROPOUT, "docs/operators.md 10.15", "must be an initializer and evaluate to False", "limits error"),
    known("rnn_activations", BIDIRECTIONAL, "docs/operators.md 10.15", "activation functions must be the same for both the forward and reverse pass", "limits error"),
    known("attention_3d", ATTENTION_3D, "docs/operators.md 10.15", "`Q`, `K`, `V` and `attn_mask ` must be 4D", "limits error"),
    known("eye_like_dynamic", EYE, "docs/operators.md 10.15", "`input` must have static dimensions", "limits error"),
    known("abs_int8", ABS_INT8, "docs/operators.md 10.15", "Abs | Y | FP32, FP16, BF16, INT32, INT64", "operators unknown"),
    known("tan_cuda", TAN, "docs/OperatorKernels.md", "Operators implemented by CUDAExecutionProvider", "cuda_kernels warning", target=target("", engine="onnxruntime_cuda")),
    known("arg_max_int64_cuda", ARG_MAX, "docs/OperatorKernels.md", "ArgMax | 13+ | T = tensor(double), tensor(float), tensor(float16)", "cuda_kernels warning", target=target("", engine="onnxruntime_cuda")),
    known("non_max_suppression_cuda", SUPPRESSION, "microsoft/onnxruntime non_max_suppression.cc", "ONNX_OPERATOR_VERSIONED_KERNEL_EX( NonMaxSuppression, kOnnxDomain, 10, 10, kCudaExecutionProvider", "cuda_kernels warning", target=target("", engine="onnxruntime_cuda")),
    known("mish_cuda", MISH, "onnx.defs, schema of Mish", "has_function (of Softplus, Tanh, Mul)", target=target("", engine="onnxruntime_cuda")),
    known("if_shapes", _if((2,), (1,)), "NVIDIA/TensorRT#4603", "IIfConditionalOutputLayer inputs must have the same shape. Shapes are [2] and [1].", "control_flow error"),
    known("if_ranks", _if((2,), (2, 1)), "PINTO0309/PINTO_model_zoo#439", "Shapes are [-1] and [-1,1].", "control_flow error"),
    known("if_same_names", _if((2,), (2,), same_names=True), "docs/operators.md 10.15", "must have the same rank and must have different names", "control_flow error"),
    known("if_constant", _if((2,), (1,), fixed=True), "onnx/onnx-tensorrt importers, 10.1 GA", "For constant conditions, parse only the selected subgraph"),
    known("if_alike", _if((2,), (2,)), "NVIDIA/TensorRT#1731", "IIfConditionalOutputLayer inputs must have the same shape."),
    known("loop_scan", LOOP, "docs/operators.md 10.15", "Scan output length cannot be dynamic", "control_flow error"),
)  # fmt: skip
