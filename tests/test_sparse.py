"""Sparse weights: what their indices may be, and that recipes take them as runtimes do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import catalog, graph, sparse
from accel.errors import BadModel
from accel.values import QuantStyle

STYLE = QuantStyle(True, False, True, False, True)
FLAT, RANKED = [0, 5, 15], [[0, 0], [1, 1], [3, 3]]


def product(
    at: Any, values: Sequence[float] = (1.0, 2.0, 3.0), dims: Sequence[int] = (4, 4)
) -> Any:
    """y = relu(x @ w), w sparse: x [n, 4]."""
    held = numpy_helper.from_array(np.asarray(values, np.float32), "w")
    weight = helper.make_sparse_tensor(
        held, numpy_helper.from_array(np.asarray(at, np.int64), "at"), dims
    )
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    ports = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    body = helper.make_graph(
        nodes, "sparse", *([port] for port in ports), sparse_initializer=[weight]
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answer(path: Path) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.arange(12, dtype=np.float32).reshape(3, 4)})[0]


@pytest.mark.parametrize("at", [FLAT, RANKED])
def test_written_out_it_is_the_same_graph(at: Any, tmp_path: Path) -> None:
    """ONNX Runtime answers alike, and nothing sparse is left."""
    onnx.save(product(at), tmp_path / "sparse.onnx")
    graph.save(made := graph.dense(tmp_path / "sparse.onnx"), tmp_path / "dense.onnx")
    assert (len(made.graph.sparse_initializer), len(made.graph.initializer)) == (0, 1)
    np.testing.assert_array_equal(answer(tmp_path / "dense.onnx"), answer(tmp_path / "sparse.onnx"))


@pytest.mark.parametrize(
    ("at", "dims", "said"),
    [
        ([0, 5, 16], (4, 4), "outside its shape"),
        ([-1, 5, 6], (4, 4), "outside its shape"),
        ([[0, 0], [1, 4], [3, 3]], (4, 4), "outside its shape"),
        ([0, 5, 5], (4, 4), "do not ascend"),
        ([[1, 1], [0, 0], [3, 3]], (4, 4), "do not ascend"),
        ([0, 5], (4, 4), "3 values at indices of shape [2]"),
        ([[0], [1], [2]], (4, 4), "3 values at indices of shape [3, 1]"),
        (FLAT, (4, 0), "of shape [4, 0]"),
    ],
)
def test_indices_that_cannot_be_are_refused(
    at: Any, dims: Sequence[int], said: str, tmp_path: Path
) -> None:
    """When the file is opened, not by a runtime later."""
    onnx.save(product(at, dims=dims), tmp_path / "m.onnx")
    with pytest.raises(BadModel, match=said.replace("[", r"\[")):
        graph.checked(tmp_path / "m.onnx")


def test_one_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    """Three values of a shape of 2^80 are a small file."""
    onnx.save(product([[0, 0], [1, 1], [3, 2**39]], dims=(2**40, 2**40)), tmp_path / "m.onnx")
    with pytest.raises(BadModel, match="when written out"):
        sparse.expand(graph.checked(tmp_path / "m.onnx").graph)


def test_many_that_no_memory_holds_are_refused(tmp_path: Path) -> None:
    """Each would fit alone."""
    proto = product(FLAT, dims=(19_000, 19_000))  # 1.4 GB
    second = proto.graph.sparse_initializer.add()
    second.CopyFrom(proto.graph.sparse_initializer[0])
    second.values.name = "v"
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(BadModel, match="when written out"):
        sparse.expand(graph.checked(tmp_path / "m.onnx").graph)


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8_dynamic", "int8_mixed", "weight_only"])
def test_recipes_take_them(recipe: str, tmp_path: Path) -> None:
    """A product by a sparse weight is one by a weight."""
    values, at = np.linspace(0.1, 1, 1024), np.arange(0, 4096, 4)
    proto = product(at, values, (64, 64))
    for port in (*proto.graph.input, *proto.graph.output):
        port.type.tensor_type.shape.dim[1].dim_value = 64
    onnx.save(proto, tmp_path / "m.onnx")
    model, member = graph.describe(tmp_path / "m.onnx"), catalog.load("recipes", recipe)
    feeds = [
        {"x": np.random.default_rng(i).normal(size=(2, 64)).astype(np.float32)} for i in range(4)
    ]
    options = next(
        o for o in member.variants(STYLE) if not {"migrate", "equalize", "fuse"} & set(o)
    )
    made = member.apply(model, feeds, STYLE, options, tmp_path)
    assert made.model.outputs[0].dtype == "float32"
