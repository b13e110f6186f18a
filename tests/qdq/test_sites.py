"""Which nodes could run in int8, and what they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import graph, testing
from accel.calibration.collect import tapped
from accel.kinds import kinds
from accel.qdq.sites import Weight, sites, untyped

F = TensorProto.FLOAT


def test_products_of_a_small_network(tmp_path: Path) -> None:
    """Two convolutions and a Gemm, with their weights, axes and biases; a mean between them."""
    model = testing.convnet(tmp_path / "m.onnx")
    found = sites(graph.open_model(model.path))
    kinds = [(s.operator, s.activations, s.weight, s.bias) for s in found]
    assert kinds == [
        ("Conv", (0,), Weight(1, "k0", 0), 2),
        ("Conv", (0,), Weight(1, "k1", 0), None),
        ("GlobalAveragePool", (0,), None, None),
        ("Gemm", (0,), Weight(1, "w", 1), 2),
    ]


def test_products_of_activations_have_two(tmp_path: Path) -> None:
    """Scores and the weighted sum of an attention."""
    model = testing.attention(tmp_path / "m.onnx")
    found = {s.name: s for s in sites(graph.open_model(model.path))}
    names = {s.activations for s in found.values() if s.operator == "MatMul" and s.weight is None}
    assert names == {(0, 1)}
    assert sum(s.operator == "MatMul" for s in found.values()) == 5


@pytest.mark.parametrize(
    ("operator", "shape", "options", "axis"),
    [
        ("Conv", (8, 4, 3, 3), {}, 0),
        ("Conv", (4, 1, 3, 3), {"group": 4}, 0),
        ("ConvTranspose", (4, 8, 3, 3), {}, 1),
        ("ConvTranspose", (4, 2, 3, 3), {"group": 2}, None),
        ("Gemm", (4, 8), {}, 1),
        ("Gemm", (8, 4), {"transB": 1}, 0),
        ("MatMul", (4, 8), {}, 1),
        ("MatMul", (2, 4, 8), {}, None),
    ],
)
def test_the_axis_is_that_of_the_output_channels(
    operator: str, shape: tuple[int, ...], options: dict[str, int], axis: int | None
) -> None:
    """A scale for each of these can be taken out of the product; None where no axis is so."""
    rank = len(shape) if operator.startswith("Conv") else 2
    sizes = [1, 4, 9, 9] if rank == 4 else [3, 4]
    body = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"], **options)],
        "g",
        [helper.make_tensor_value_info("x", F, sizes)],
        [helper.make_tensor_value_info("y", F, None)],
        [numpy_helper.from_array(np.zeros(shape, np.float32), "w")],
    )
    proto = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)])
    (found,) = sites(onnx.shape_inference.infer_shapes(proto))
    assert found.weight == Weight(1, "w", axis)


def test_integers_constants_and_other_domains_are_no_sites(tmp_path: Path) -> None:
    """An addition of positions, a bias, a product of constants, somebody's own operator."""
    w = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    b = numpy_helper.from_array(np.ones(4, np.float32), "b")
    nodes = [
        helper.make_node("Add", ["i", "i"], ["i2"]),
        helper.make_node("MatMul", ["w", "w"], ["ww"]),
        helper.make_node("Add", ["x", "b"], ["xb"]),
        helper.make_node("MatMul", ["xb", "w"], ["p"], domain="somebody"),
        helper.make_node("MatMul", ["x", "ww"], ["y"]),
    ]
    body = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, [2, 4]), helper.make_tensor_value_info("i", 7, [2])],
        [helper.make_tensor_value_info(n, t, None) for n, t in (("y", F), ("i2", 7))],
        [w, b],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("somebody", 1)]
    found = sites(helper.make_model(body, opset_imports=opsets))
    assert not found


@pytest.mark.parametrize(("shape", "axis"), [([4], None), ([2, 4], 1), (None, 1)])
def test_a_vector_by_a_matrix_has_one_scale(shape: list[int] | None, axis: int | None) -> None:
    """Where it is known to be one; what has no shape is taken for a matrix."""
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", F, shape)],
        [helper.make_tensor_value_info("y", F, None)],
        [numpy_helper.from_array(np.zeros((4, 8), np.float32), "w")],
    )
    proto = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)])
    (found,) = sites(proto)
    assert found.weight == Weight(1, "w", axis)


def _behind(private: str, inputs: str = "") -> Any:
    """x a -> h; an operator of ONNX Runtime's own -> k; k b -> y."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node(private, ["h", *inputs.split()], ["k"], domain="com.microsoft"),
        helper.make_node("MatMul", ["k", "b"], ["y"]),
    ]  # fmt: skip
    square, row = np.ones((8, 8), np.float32), np.ones(8, np.float32)
    body = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, ["n", 5, 8])],
        [helper.make_tensor_value_info("y", F, ["n", 5, 8])],
        [numpy_helper.from_array(square, n) for n in "ab"]
        + [numpy_helper.from_array(row, n) for n in ("gamma", "beta", "bias")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(body, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize(
    ("private", "inputs"),
    [
        ("BiasGelu", "bias"),
        ("SkipLayerNormalization", "x gamma beta"),
        ("QuickGelu", ""),
        ("FusedMatMul", "a"),
    ],
)
def test_products_behind_onnx_runtimes_own_operators_are_sites(private: str, inputs: str) -> None:
    """ONNX's inference does not know the type of what such an operator makes, nor of all behind it."""
    proto = _behind(private, inputs)
    assert [s.weight.name for s in sites(proto) if s.weight] == ["a", "b"]
    assert untyped(proto) == 0
    assert {"h", "k", "y"} <= set(tapped(proto))


def test_a_product_of_unknown_type_is_counted() -> None:
    """It is no site, and a recipe can say why."""
    proto = _behind("Inverse")
    assert [s.weight.name for s in sites(proto) if s.weight] == ["a"]
    assert untyped(proto) == 1


def test_types_behind_own_operators_are_those_of_the_weights() -> None:
    """In a graph of float16, not float32: or what is known to be float16 would contradict it."""
    proto = _behind("BiasGelu", "bias")
    for tensor in proto.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    found = kinds(proto)
    assert {found[n] for n in "hky"} == {TensorProto.FLOAT16}
