"""ONNX files as a fake TensorRT reads and runs them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnxruntime
from onnx import TensorProto, numpy_helper

SHAPES_AT = {"Reshape": 1, "Expand": 1, "Tile": 1, "ConstantOfShape": 0, "Range": 1}
UNKNOWN = {"NonZero", "NonMaxSuppression", "Unique", "Compress"}  # sizes that the data decide
TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.DOUBLE: "FLOAT",  # the parser narrows it
    TensorProto.FLOAT16: "HALF",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
}
NUMPY = {"FLOAT": "f4", "HALF": "f2", "INT8": "i1", "UINT8": "u1", "INT32": "i4", "INT64": "i8"}
NUMPY |= {"BOOL": "?"}


def ports(model: onnx.ModelProto, outputs: bool = False) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, TensorRT's type, sizes) of inputs or outputs; -1 is open until run time."""
    held = {i.name for i in model.graph.initializer}
    found = model.graph.output if outputs else [p for p in model.graph.input if p.name not in held]
    return [(p.name, TYPES[p.type.tensor_type.elem_type], _sizes(p)) for p in found]


def _sizes(port: Any) -> tuple[int, ...]:
    return tuple(
        d.dim_value if d.HasField("dim_value") else -1 for d in port.type.tensor_type.shape.dim
    )


def types(model: onnx.ModelProto) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(TensorRT's type, sizes) of each value that ONNX can tell of."""
    known = onnx.shape_inference.infer_shapes(model).graph
    ports = (*known.input, *known.output, *known.value_info)
    held = [(i.name, i.data_type, tuple(i.dims)) for i in known.initializer]
    found = [(p.name, p.type.tensor_type.elem_type, _sizes(p)) for p in ports]
    return {name: (TYPES.get(kind, "FLOAT"), sizes) for name, kind, sizes in (*held, *found)}


def shape_inputs(model: onnx.ModelProto) -> set[str]:
    """Inputs whose values say what shapes are."""
    wanted = {n.input[SHAPES_AT[n.op_type]] for n in model.graph.node if n.op_type in SHAPES_AT}
    return wanted & {name for name, _, _ in ports(model)}


def data_dependent(model: onnx.ModelProto) -> set[str]:
    """Outputs whose sizes nobody knows before the run."""
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type in UNKNOWN or found & set(node.input):
            found |= set(node.output)
    return found & {name for name, _, _ in ports(model, outputs=True)}


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, all its float weights zero."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for held in bare.graph.initializer:
        array = numpy_helper.to_array(held)
        if array.dtype.kind == "f":
            held.CopyFrom(numpy_helper.from_array(np.zeros_like(array), held.name))
    return bare


def run(data: bytes, feed: Mapping[str, Any]) -> dict[str, Any]:
    """What ONNX Runtime makes of it."""
    session = _session(hashlib.sha256(data).hexdigest(), data)
    names = [port.name for port in session.get_outputs()]
    wide = {p.name: np.float64 for p in session.get_inputs() if p.type == "tensor(double)"}
    given = {k: np.asarray(v, wide.get(k, v.dtype)) for k, v in feed.items()}
    return dict(zip(names, session.run(names, given), strict=True))


_KEPT: dict[str, Any] = {}


def _session(digest: str, data: bytes) -> Any:
    if digest not in _KEPT:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        _KEPT[digest] = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )
    return _KEPT[digest]


@functools.cache
def read(data: bytes) -> onnx.ModelProto:
    """The file that an engine holds."""
    return onnx.load_from_string(data)


def shapes(
    data: bytes, sizes: Mapping[str, Sequence[int]], values: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    """Sizes of the outputs, found by a run on zeros; `values` are those of shape inputs."""
    feed = {
        name: values.get(name, np.zeros(tuple(sizes[name]), NUMPY[kind]))
        for name, kind, _ in ports(read(data))
    }
    return {name: array.shape for name, array in run(data, feed).items()}
