"""Element types that TensorRT does not have, or has at the network's ports only.

INT64 is its own since 9.0: such weights are no longer clamped to INT32, as they were in 8. DOUBLE is
cast down and clamped by the parser where it can; the automatic fix does it in the graph, and looks at
the values first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import onnx
from onnx import numpy_helper

from accel.legality import _graph, _tensorrt
from accel.values import Finding, Request, Target

ENGINES = _tensorrt.ENGINES
FLOAT, DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
LARGEST = float(numpy.finfo(numpy.float32).max)
UINT8 = "NVIDIA/TensorRT#2809: 'TensorRT does not support UINT8 types for intermediate tensors!'"
DOUBLES = f"{_tensorrt.LIST_10_15}: limited support for DOUBLE, cast down to FLOAT and clamped"
WHOLE = f"{_tensorrt.LIST_10_15}: the data types of the parser"
KNOWN = [
    "FLOAT",
    "FLOAT16",
    "BFLOAT16",
    "FLOAT8E4M3FN",
    "FLOAT4E2M1",
    "INT32",
    "INT64",
    "INT8",
    "INT4",
    "UINT8",
    "BOOL",
    "DOUBLE",
]
BEFORE = ("Cast", "QuantizeLinear", "DequantizeLinear")  # what may read or make uint8


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Each value of a type that is missing, by its maker or as a port or a weight."""
    ports = {*graph.inputs, *graph.outputs}
    for name, kind in graph.dtypes.items():
        maker = graph.producers.get(name)
        operator, where = (maker.operator, maker.place) if maker else ("", name)
        if kind == "DOUBLE":
            said = "DOUBLE; TensorRT has FLOAT, FLOAT16 and BFLOAT16, and clamps what is larger"
            yield Finding("dtypes", "error", said, where, operator, DOUBLES, _tensorrt.FIX)
        elif kind == "UINT8" and name not in ports and not _quantized(graph, name):
            said = "UINT8 inside of the graph; TensorRT takes it as input or output, through a Cast"
            yield Finding("dtypes", "error", said, where, operator, UINT8)
        elif kind not in KNOWN and kind != "UNDEFINED":
            said = f"{kind}; TensorRT has {', '.join(KNOWN[:-1])}"
            yield Finding("dtypes", "error", said, where, operator, WHOLE)
    for name in graph.inputs:
        if graph.dtype(name) == "UINT8":
            yield from _reader(graph, name)


def _quantized(graph: _graph.Graph, name: str) -> bool:
    """A zero point, or what a QuantizeLinear makes: the rule qdq speaks of it."""
    maker = graph.producers.get(name)
    if maker is not None and maker.operator == "QuantizeLinear":
        return True
    readers = graph.consumers.get(name, ())
    return bool(readers) and all(n.operator in BEFORE[1:] for n in readers)


def _reader(graph: _graph.Graph, name: str) -> Iterator[Finding]:
    for node in graph.consumers.get(name, ()):
        if node.operator not in BEFORE:
            said = f"input {name} is UINT8 and read by {node.operator}; TensorRT takes it through a Cast"
            yield Finding("dtypes", "error", said, node.place, node.operator, UINT8)


def fix(graph: _graph.Graph, target: Target) -> tuple[Any, list[str]]:
    """DOUBLE becomes FLOAT everywhere, ports too; nothing where a weight would not fit in FLOAT."""
    proto = graph.proto
    if "DOUBLE" not in graph.dtypes.values() or proto.functions or graph.trouble:
        return proto, []
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    try:
        changed = _floats(made.graph)
    except OverflowError:
        return proto, []
    ports = [v.name for v in (*proto.graph.input, *proto.graph.output) if _double(v)]
    told = f"; the ports {', '.join(ports)} are FLOAT now" if ports else ""
    return made, [f"DOUBLE to FLOAT in {changed} places{told}"]


def _double(value: Any) -> bool:
    return bool(value.type.tensor_type.elem_type == DOUBLE)


def _floats(part: Any) -> int:
    """Change ports, weights, casts and constants of a graph and its subgraphs; how many."""
    changed = 0
    part.ClearField("value_info")
    for value in (*part.input, *part.output):
        if _double(value):
            value.type.tensor_type.elem_type, changed = FLOAT, changed + 1
    for tensor in part.initializer:
        changed += _tensor(tensor)
    for node in part.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == DOUBLE:
                attribute.i, changed = FLOAT, changed + 1
            if attribute.HasField("t"):
                changed += _tensor(attribute.t)
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                changed += _floats(inner)
    return changed


def _tensor(tensor: Any) -> int:
    if tensor.data_type != DOUBLE:
        return 0
    array = numpy_helper.to_array(tensor)
    if numpy.isfinite(array).any() and numpy.abs(array[numpy.isfinite(array)]).max() > LARGEST:
        raise OverflowError
    tensor.CopyFrom(numpy_helper.from_array(array.astype(numpy.float32), tensor.name))
    return 1
