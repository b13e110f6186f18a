"""Which precision a graph asks of each node.

A node between Q/DQ nodes asks for int8 (TensorRT, "Working with Quantized Types"; ONNX Runtime,
"Quantize ONNX models", its QDQ format), every other one for the float type that it is written in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from accel import shapes
from accel.errors import BadModel

FLOATS = {"float32", "float16", "bfloat16", "float64"}
WEIGHTED = {"Conv", "ConvTranspose", "MatMul", "Gemm"}  # int8 even where the output stays float
MOVING = {"Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
QDQ = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Constant"}
LARGE = 256  # elements: weights are cut to type and shape; axes and the like are needed whole


@dataclass(frozen=True)
class Asked:
    """Names are those of nodes and, as runtimes take them for nodes without one, of outputs."""

    dtypes: Mapping[str, str]  # name -> "int8", "float32", ...
    int8: Mapping[str, int]  # operator -> nodes

    def name(self, told: str) -> str:
        """The node behind a runtime's name, which may have got parts behind slashes; else ""."""
        while told and told not in self.dtypes:
            told = told.rpartition("/")[0]
        return told


def slip(asked: str, runs: str) -> str:
    """The asked precision where a float one runs in its stead, else "". An int8 node in place of a
    float one is no slip: runtimes draw what stands between Q/DQ nodes into them."""
    return asked if asked and asked != runs and runs in FLOATS else ""


def asked(proto: Any) -> Asked:
    """What a ModelProto asks for; it is no model any more afterwards, for its weights are dropped."""
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) > LARGE:
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
                tensor.ClearField(field)
    dtypes: dict[str, str] = {}
    int8: Counter[str] = Counter()
    for part in _graphs(_inferred(proto).graph):
        for node, dtype in _asked(part):
            int8[node.op_type] += dtype == "int8"
            dtypes |= {name: dtype for name in (node.name, *node.output) if name}
    return Asked(dtypes, +int8)


def _inferred(proto: Any) -> Any:
    try:
        return shapes.inferred(proto)
    except BadModel:  # a runtime took it
        return proto  # what is declared, and no more


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for attribute in (a for node in graph.node for a in node.attribute):
        for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            yield from _graphs(inner)


def _asked(graph: Any) -> Iterator[tuple[Any, str]]:
    types = _types(graph)
    dequantized = _dequantized(graph, types)
    quantized = _only_quantized(graph)
    for node in graph.node:
        floats = [n for n in node.input if types.get(n, "") in FLOATS]
        heavy = node.op_type in WEIGHTED
        tried = list(node.input[:2]) if heavy else floats
        whole = bool(tried) and all(n in dequantized for n in tried)
        if node.op_type in QDQ:
            yield node, ""
        elif whole and (heavy or all(n in quantized for n in node.output)):
            yield node, "int8"
        else:
            found = (types.get(n, "") for n in (*node.output, *node.input))
            yield node, next((t for t in found if t in FLOATS), "")


def _types(graph: Any) -> dict[str, str]:
    ports = [(v.name, v.type.tensor_type.elem_type) for v in (*graph.input, *graph.value_info, *graph.output)]  # fmt: skip
    weights = [(t.name, t.data_type) for t in graph.initializer]
    named = onnx.TensorProto.DataType.Name
    short = {"FLOAT": "float32", "DOUBLE": "float64"}
    return {n: short.get(named(kind), named(kind).lower()) for n, kind in (*ports, *weights)}


def _dequantized(graph: Any, types: Mapping[str, str]) -> set[str]:
    """Tensors that stand for an int8 one, as they come or moved."""
    found: set[str] = set()
    for node in graph.node:  # in topological order (ONNX IR, "Graphs")
        moved = node.op_type in MOVING and node.input[0] in found
        opened = node.op_type == "DequantizeLinear"
        if moved or (opened and types.get(node.input[0], "int8") in ("int8", "uint8")):
            found.update(node.output)
    return found


def _only_quantized(graph: Any) -> set[str]:
    """Tensors that QuantizeLinear nodes alone read."""
    readers: dict[str, set[str]] = {v.name: {"output"} for v in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    return {name for name, kinds in readers.items() if kinds == {"QuantizeLinear"}}
