"""Operators without a kernel in ONNX Runtime's CUDA provider: they run on the CPU, with copies around
them, and keep CUDA graphs from being captured.

What ONNX defines as a function of other operators is decomposed, and looked at no further.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from accel.legality import _graph
from accel.values import Finding, Request, Target

ENGINES = ("onnxruntime_cuda",)
SOURCE = "microsoft/onnxruntime docs/OperatorKernels.md (commit 001d12d), CUDAExecutionProvider"
BY_DATA = ("Compress", "NonMaxSuppression", "NonZero")  # these wait for the size of what they found
WAITING = (
    "microsoft/onnxruntime onnxruntime/core/providers/cuda/object_detection/non_max_suppression.cc "
    "(commit 023187c): a kernel since opset 10, which reads its count on the host"
)
KERNELS = frozenset(  # and NonMaxSuppression, which the list has not
    [
        "Abs",
        "Add",
        "And",
        "ArgMax",
        "ArgMin",
        "Attention",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Clip",
        "Compress",
        "Concat",
        "ConcatFromSequence",
        "ConstantOfShape",
        "Conv",
        "ConvTranspose",
        "Cos",
        "CumSum",
        "DepthToSpace",
        "DequantizeLinear",
        "Div",
        "Dropout",
        "Einsum",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "EyeLike",
        "Flatten",
        "Floor",
        "GRU",
        "Gather",
        "GatherElements",
        "GatherND",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Greater",
        "GreaterOrEqual",
        "GridSample",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "If",
        "ImageScaler",
        "InstanceNormalization",
        "IsInf",
        "IsNaN",
        "LRN",
        "LSTM",
        "LayerNormalization",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "LogSoftmax",
        "Loop",
        "MatMul",
        "MatMulInteger",
        "Max",
        "MaxPool",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "NonMaxSuppression",
        "NonZero",
        "Not",
        "OneHot",
        "Or",
        "PRelu",
        "Pad",
        "ParametricSoftplus",
        "Pow",
        "QuantizeLinear",
        "RMSNormalization",
        "RNN",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Range",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Relu",
        "Reshape",
        "Resize",
        "ReverseSequence",
        "RoiAlign",
        "RotaryEmbedding",
        "Round",
        "ScaledTanh",
        "Scan",
        "Scatter",
        "ScatterElements",
        "ScatterND",
        "Selu",
        "SequenceAt",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceLength",
        "Shape",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Size",
        "Slice",
        "Softmax",
        "Softplus",
        "Softsign",
        "SpaceToDepth",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tanh",
        "TensorScatter",
        "ThresholdedRelu",
        "Tile",
        "TopK",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Upsample",
        "Where",
        "Xor",
    ]
)
TYPES = {  # of the first input, where the list gives fewer than models use
    "ArgMax": ("DOUBLE", "FLOAT", "FLOAT16"),
    "ArgMin": ("DOUBLE", "FLOAT", "FLOAT16"),
    "GridSample": ("FLOAT",),
    "DequantizeLinear": ("INT8", "UINT8", "INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2"),
}


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Every node of ONNX's own operators, and those that keep CUDA graphs away though they have one."""
    for node in graph.standard():
        if node.operator == "Constant":
            continue
        said = ""
        if node.operator not in KERNELS and not _decomposed(node.operator, graph.opset):
            said = f"no CUDA kernel of {node.operator}: it would run on the CPU"
        elif node.operator in TYPES and _other(graph, node):
            kinds = ", ".join(TYPES[node.operator])
            seen = graph.dtype(node.inputs[0])
            said = f"no CUDA kernel of {node.operator} for {seen}, only for {kinds}"
        if node.operator in BY_DATA:
            told = f"{node.operator}: its output's size depends on data; no CUDA graph"
            yield Finding("cuda_kernels", "warning", told, node.place, node.operator, WAITING)
        if said:
            yield Finding("cuda_kernels", "warning", said, node.place, node.operator, SOURCE)


def _other(graph: _graph.Graph, node: _graph.Node) -> bool:
    return graph.dtype(node.inputs[0]) not in ("", *TYPES[node.operator])


def _decomposed(operator: str, opset: int) -> bool:
    try:
        schema = onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)
