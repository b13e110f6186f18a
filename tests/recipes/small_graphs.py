"""Small float graphs that the tests of float recipes draw, and the types that they end with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from accel import graph
from accel.values import Model

F = TensorProto.FLOAT
Node = tuple[str, str, str, dict[str, Any]]
IR_VERSION = 10


def drawn(path: Path, nodes: Sequence[Node], opset: int, **weights: Any) -> Model:
    """x [n, 8] -> y; inputs and outputs of a node apart by spaces."""
    made = [
        helper.make_node(o, i.split(), p.split(), f"{o.lower()}_{p.split()[0]}", **more)
        for o, i, p, more in nodes
    ]
    body = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", F, ["n", 8])],
        [helper.make_tensor_value_info("y", F, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.save(onnx.shape_inference.infer_shapes(proto), path)
    return graph.describe(path)


def types_of(path: Path) -> dict[str, str]:
    """Node name -> the element type of its first output."""
    proto = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    kinds = {
        v.name: v.type.tensor_type.elem_type for v in (*proto.graph.value_info, *proto.graph.output)
    }
    return {n.name: TensorProto.DataType.Name(kinds[n.output[0]]) for n in proto.graph.node}


ROTARY: list[Node] = [
    ("Shape", "x", "s", {}),
    ("ReduceMax", "s", "n", {"keepdims": 0}),
    ("Range", "zero n one", "positions", {}),
    ("Cast", "positions", "p", {"to": F}),
    ("Unsqueeze", "p at_1", "column", {}),
    ("MatMul", "column frequencies", "angles", {}),
    ("Cos", "angles", "c", {}),
    ("MatMul", "x w", "m", {}),
    ("Mul", "m c", "r", {}),
    ("MatMul", "r w", "y", {}),
]


def rotary(path: Path, opset: int) -> Model:
    """Products turned by the cosine of each row's position, between two of them."""
    return drawn(
        path,
        ROTARY,
        opset,
        zero=np.int64(0),
        one=np.int64(1),
        at_1=np.array([1]),
        frequencies=(10000.0 ** (-np.arange(8) / 8)).astype(np.float32)[None],
        w=np.eye(8, dtype=np.float32),
    )


def listed(model: Model) -> Model:
    """The same file as IR 3 demands it: its weights are listed among the inputs, too."""
    proto = onnx.load(model.path)
    proto.ir_version = 3
    proto.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in proto.graph.initializer
    )
    onnx.save(proto, model.path)
    return graph.describe(model.path)
