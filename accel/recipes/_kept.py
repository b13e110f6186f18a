"""What stays float32 in a graph of 16 bits, whatever its values are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from accel.recipes._halves import Floats

SENSITIVE = (
    "Pow", "Exp", "Log", "Sqrt", "Reciprocal", "CumSum", "Softmax", "LogSoftmax", "ReduceMean",
    "ReduceSum", "ReduceSumSquare", "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp",
)  # fmt: skip
CUDA_BFLOAT16 = {  # at the opsets at which ONNX has it; microsoft/onnxruntime docs/OperatorKernels.md, 001d12d
    "Abs", "Add", "Attention", "AveragePool", "Cast", "Compress", "Concat", "ConstantOfShape", "Conv",
    "Div", "Dropout", "Erf", "Exp", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Gelu",
    "Gemm", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LayerNormalization", "MatMul",
    "Max", "Min", "Mod", "Mul", "Neg", "Pow", "RMSNormalization", "ReduceSum", "Relu", "Reshape",
    "ReverseSequence", "RotaryEmbedding", "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Sign",
    "Size", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "TensorScatter",
    "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
}  # fmt: skip
INTEGERS = (2, 3, 4, 5, 6, 7, 12, 13)  # onnx.TensorProto's: of 8, 16, 32 and 64 bits
ANGLES = ("Sin", "Cos", "Tan")
LEARNT = ("Conv", "ConvTranspose", "Gemm", "Softmax", "Attention")  # and norms, MatMul


def between(found: Floats, halves: Mapping[int, Any]) -> list[int]:
    """Nodes of 16 bits whose neighbours are all kept: two casts would buy one operator."""
    makers = _makers(found)
    readers: dict[str, list[int]] = {}
    for i, node in found.nodes:
        for name in node.input:
            readers.setdefault(name, []).append(i)
    alone = []
    for i, node in found.nodes:
        before = [makers[n] for n in node.input if n in makers]
        after = [r for o in node.output for r in readers.get(o, ())]
        if i in halves and before and after and not halves.keys() & {*before, *after}:
            alone.append(i)
    return alone


def exact(found: Floats) -> frozenset[int]:
    """The nodes that count or measure: what leads to an angle, to an integer, to a scale of Resize.

    bfloat16 holds integers to 256 alone, and takes position 501 for 500 (huggingface/transformers#29285
    forces float32 there); float16 holds those to 2048. What was learnt ends the way back, and so does
    what is no float."""
    makers, nodes = _makers(found), dict(found.nodes)
    floats = {*found.values, *found.constants}
    kept = {i for i, node in found.nodes if node.op_type in ANGLES}
    left = [name for _, node in found.nodes for name in _exact_inputs(node)]
    while left:
        name = left.pop()
        i = makers.get(name) if name in floats else None
        if i is None or i in kept or _learnt(nodes[i], found.constants):
            continue
        kept.add(i)
        left.extend(nodes[i].input)
    return frozenset(kept)


def _exact_inputs(node: Any) -> Iterator[str]:
    """Inputs that must be exact: of an angle, a cast to an integer, a range, a Resize."""
    if node.op_type in (*ANGLES, "Range") or (node.op_type == "Cast" and _to_integer(node)):
        yield from node.input
    if node.op_type == "Resize":
        yield from node.input[1:]


def _to_integer(node: Any) -> bool:
    return any(a.name == "to" and a.i in INTEGERS for a in node.attribute)


def _learnt(node: Any, constants: Mapping[str, Any]) -> bool:
    """Does it end the way back? A MatMul by a matrix does; one by a vector of frequencies does not."""
    if node.op_type in LEARNT or node.op_type.endswith("Normalization"):
        return True
    sizes = [constants[n].dims for n in node.input if n in constants]
    return node.op_type == "MatMul" and any(len(d) > 1 and min(d[-2:]) > 1 for d in sizes)


def _makers(found: Floats) -> dict[str, int]:
    return {o: i for i, n in found.nodes for o in n.output}


def reasons(kept: Mapping[str, int]) -> str:
    """ "3 range, 2 sensitive", by the reason's name."""
    return ", ".join(f"{n} {why}" for why, n in sorted(kept.items())) or "nothing"
