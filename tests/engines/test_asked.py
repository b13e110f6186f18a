"""The precision that a graph asks of each node, on graphs that were read by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from accel import testing
from accel.engines._asked import asked, slip


def _graph(*nodes: Any, output: int = onnx.TensorProto.FLOAT) -> onnx.ModelProto:
    """x float [2, 4] -> y; scale `s`, zero point `z`, and a quantized weight `w` [4, 4]."""
    tensors = [
        numpy_helper.from_array(np.float32(0.1), "s"),
        numpy_helper.from_array(np.uint8(0), "z"),
        numpy_helper.from_array(np.ones((4, 4), np.uint8), "w"),
        numpy_helper.from_array(np.ones((4, 4), np.float32), "f"),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 4])
    y = helper.make_tensor_value_info("y", output, [2, 4])
    graph = helper.make_graph(list(nodes), "g", [x], [y], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def _node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
    name = f"{operator.lower()}_{output}"
    return helper.make_node(operator, inputs.split(), [output], name=name, **attributes)


QUANTIZE = _node("QuantizeLinear", "x s z", "q")
DEQUANTIZE = _node("DequantizeLinear", "q s z", "d")
WEIGHT = _node("DequantizeLinear", "w s z", "v")


def test_a_product_of_two_dequantized_tensors_asks_for_int8() -> None:
    """Also where its output stays float, and where what it reads was moved on the way."""
    moved = _node("Transpose", "v", "t", perm=[1, 0])
    found = asked(_graph(QUANTIZE, DEQUANTIZE, WEIGHT, moved, _node("MatMul", "d t", "y")))
    assert found.dtypes["matmul_y"] == "int8"
    assert found.int8 == {"MatMul": 1}


@pytest.mark.parametrize("inputs", ["d f", "x v"])
def test_a_product_with_one_float_tensor_does_not(inputs: str) -> None:
    """Weights alone, or activations alone, in int8 are not an int8 product."""
    found = asked(_graph(QUANTIZE, DEQUANTIZE, WEIGHT, _node("MatMul", inputs, "y")))
    assert found.dtypes["matmul_y"] == "float32"
    assert not found.int8


@pytest.mark.parametrize(("last", "wanted"), [("QuantizeLinear", "int8"), ("Relu", "float32")])
def test_other_nodes_ask_for_it_between_both(last: str, wanted: str) -> None:
    """Sigmoid after DequantizeLinear asks for int8 where QuantizeLinear alone reads it."""
    ends = _node(last, "g s z" if last == "QuantizeLinear" else "g", "y")
    kind = onnx.TensorProto.UINT8 if last == "QuantizeLinear" else onnx.TensorProto.FLOAT
    found = asked(_graph(QUANTIZE, DEQUANTIZE, _node("Sigmoid", "d", "g"), ends, output=kind))
    assert found.dtypes["sigmoid_g"] == wanted


def test_float_types_are_those_that_the_graph_is_written_in() -> None:
    """Inferred through the graph; of conversions nothing is asked."""
    half = _node("Cast", "x", "h", to=onnx.TensorProto.FLOAT16)
    nodes = (half, _node("Relu", "h", "r"), _node("Cast", "r", "y", to=onnx.TensorProto.FLOAT))
    found = asked(_graph(*nodes))
    assert found.dtypes["relu_r"] == "float16"
    assert found.dtypes["r"] == "float16"  # the tensor names it as well
    assert found.dtypes["cast_h"] == ""


def test_types_that_cannot_be_inferred_are_those_declared() -> None:
    """An operator of a domain that the graph does not import: what stands in its ports is left."""
    proto = _graph(_node("Relu", "x", "r"), _node("Relu", "r", "y"))
    proto.graph.node[1].domain = "nobody.knows"
    proto.graph.node[1].op_type = "Strange"
    found = asked(proto)
    assert found.dtypes["relu_r"] == "float32"  # by its input
    assert found.dtypes["y"] == "float32"  # by the port


def test_branches_are_looked_into(tmp_path: Path) -> None:
    """A node inside an If asks as any other."""
    inner = helper.make_tensor_value_info("i", onnx.TensorProto.FLOAT, [2, 4])
    branch = helper.make_graph([_node("Relu", "x", "i")], "b", [], [inner])
    condition = helper.make_node(
        "Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))
    )
    either = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    assert asked(_graph(condition, either)).dtypes["relu_i"] == "float32"


def test_a_runtime_s_longer_name_is_brought_back(tmp_path: Path) -> None:
    """Parts behind slashes fall away until a node is known; a stranger's name gives nothing."""
    found = asked(onnx.load(testing.mlp(tmp_path / "m.onnx").path))
    assert found.name("matmul_p0/WithoutBiases/Multiply") == "matmul_p0"
    assert found.name("somebody/else") == ""


@pytest.mark.parametrize(
    ("wants", "runs", "slipped"),
    [
        ("int8", "float32", "int8"),
        ("float16", "float32", "float16"),
        ("float32", "bfloat16", "float32"),
        ("float32", "float32", ""),
        ("float32", "int8", ""),  # drawn into its quantized neighbour
        ("", "float32", ""),
        ("int8", "int64", ""),
    ],
)
def test_what_a_slip_is(wants: str, runs: str, slipped: str) -> None:
    """Another float type than asked; never int8 in place of float."""
    assert slip(wants, runs) == slipped
