"""Where the rule of dequant_bias_act_quant fires, and why it does not elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import graph
from accel.recipes import int8_dynamic
from accel.steps.swap import Swapped, swap
from accel.values import QuantStyle

COLUMNS = 32
STYLE = QuantStyle(True, False, True, False, True)


def _weights(**changed: Any) -> dict[str, Any]:
    draw = np.random.default_rng(3)
    made = {
        "w": draw.integers(-127, 127, (16, COLUMNS)).astype(np.int8),
        "x_zero": np.uint8(120),
        "scale": draw.uniform(1e-4, 1e-3, COLUMNS).astype(np.float32),
        "bias": draw.normal(size=COLUMNS).astype(np.float32),
        "out_scale": np.float32(0.05),
        "out_zero": np.int8(-3),
    }
    return made | changed


def _graph(activation: list[Any], opset: int = 20, **changed: Any) -> Any:
    """uint8 x -> MatMulInteger -> Cast -> Mul -> Add -> activation (v -> a) -> QuantizeLinear."""
    last = ["a" if activation else "v", "out_scale", "out_zero"]
    nodes = [
        helper.make_node("MatMulInteger", ["x", "w", "x_zero"], ["acc"]),
        helper.make_node("Cast", ["acc"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "real"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["v"]),
        *activation,
        helper.make_node("QuantizeLinear", last, ["y"]),
    ]
    weights = _weights(**changed)
    kind = helper.np_dtype_to_tensor_dtype(np.asarray(weights["out_zero"]).dtype)
    return _model(nodes, weights, ("x", TensorProto.UINT8, ["B", 5, 16]), ("y", kind), opset)


def _model(nodes: list[Any], weights: dict[str, Any], x: Any, y: Any, opset: int) -> Any:
    made = helper.make_graph(
        nodes,
        "integers",
        [helper.make_tensor_value_info(*x)],
        [helper.make_tensor_value_info(y[0], y[1], None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
    )
    found = onnx.shape_inference.infer_shapes(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    )
    onnx.checker.check_model(found, full_check=True)
    return found


def _swap(proto: Any, folder: Path, *kernels: str) -> Swapped:
    path = folder / "before.onnx"
    onnx.save(proto, path)
    return swap(graph.describe(path, ()), folder / "out", kernels or ("dequant_bias_act_quant",))


def _run(path: Path, **feed: Any) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


RELU = [helper.make_node("Relu", ["v"], ["a"])]
GELU = [helper.make_node("Gelu", ["v"], ["a"])]


@pytest.mark.parametrize(("activation", "opset"), [([], 17), (RELU, 17), (GELU, 20), (RELU, 23)])
def test_it_takes_the_epilogue_and_the_result_is_the_same(
    activation: list[Any], opset: int, tmp_path: Path
) -> None:
    """One node for the whole epilogue; ONNX Runtime gives the same integers as before."""
    found = _swap(_graph(activation, opset), tmp_path)
    assert dict(found.sites) == {"dequant_bias_act_quant": 1}
    assert not found.refused
    after = onnx.load(found.model.path)
    assert [n.op_type for n in after.graph.node] == ["MatMulInteger", "DequantBiasActQuant"]
    onnx.checker.check_model(after, full_check=True)
    x = np.random.default_rng(1).integers(0, 255, (2, 5, 16)).astype(np.uint8)
    assert np.array_equal(_run(tmp_path / "before.onnx", x=x), _run(found.model.path, x=x))


def _written_out() -> list[Any]:
    pairs = (("root", 2**0.5), ("one", 1.0), ("half", 0.5))
    return [
        *(helper.make_node("Constant", [], [n], value_float=v) for n, v in pairs),
        helper.make_node("Div", ["v", "root"], ["u"]),
        helper.make_node("Erf", ["u"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["above"]),
        helper.make_node("Mul", ["v", "above"], ["twice"]),
        helper.make_node("Mul", ["twice", "half"], ["a"]),
    ]


@pytest.mark.parametrize(("activation", "opset"), [(GELU, 20), (_written_out(), 17)])
def test_it_takes_what_bias_gelu_left(activation: list[Any], opset: int, tmp_path: Path) -> None:
    """bias_gelu comes first and joins Add and Gelu; the epilogue is found all the same."""
    found = _swap(_graph(activation, opset), tmp_path, "bias_gelu", "dequant_bias_act_quant")
    after = onnx.load(found.model.path)
    assert [n.op_type for n in after.graph.node] == ["MatMulInteger", "DequantBiasActQuant"]
    assert found.sites["dequant_bias_act_quant"] == 1
    assert not found.refused
    x = np.random.default_rng(1).integers(0, 255, (2, 5, 16)).astype(np.uint8)
    assert np.array_equal(_run(tmp_path / "before.onnx", x=x), _run(found.model.path, x=x))


def test_channels_before_the_last_axis(tmp_path: Path) -> None:
    """ConvInteger: its scale and bias are [1, C, 1, 1]."""
    draw = np.random.default_rng(4)
    weights = _weights(
        w=draw.integers(-127, 127, (8, 3, 3, 3)).astype(np.int8),
        scale=draw.uniform(1e-4, 1e-3, (1, 8, 1, 1)).astype(np.float32),
        bias=draw.normal(size=(1, 8, 1, 1)).astype(np.float32),
    )
    nodes = list(_graph(RELU).graph.node)
    nodes[0] = helper.make_node("ConvInteger", ["x", "w", "x_zero"], ["acc"])
    x = ("x", TensorProto.UINT8, [2, 3, 6, 7])
    found = _swap(_model(nodes, weights, x, ("y", TensorProto.INT8), 20), tmp_path)
    assert found.sites["dequant_bias_act_quant"] == 1
    image = draw.integers(0, 255, (2, 3, 6, 7)).astype(np.uint8)
    assert np.array_equal(_run(tmp_path / "before.onnx", x=image), _run(found.model.path, x=image))


ONE = {"scale": np.float32(1e-3), "bias": np.zeros(COLUMNS, np.float32)}
SINGLE = {"scale": np.full(1, 1e-3, np.float32), "bias": np.zeros(1, np.float32)}
PARTS = {"out_scale": np.full(COLUMNS, 0.05, np.float32), "out_zero": np.zeros(COLUMNS, np.int8)}
SIGMOID = [helper.make_node("Sigmoid", ["v"], ["a"])]
TANH = [helper.make_node("Gelu", ["v"], ["a"], approximate="tanh")]


@pytest.mark.parametrize(
    ("activation", "changed", "reason"),
    [
        ([], ONE, "not both one value for each channel"),
        ([], SINGLE, "not both one value for each channel"),
        ([], PARTS, "steps of its own for parts"),
        (SIGMOID, {}, "Sigmoid follows its Add, not Relu or Gelu or QuantizeLinear"),
        (TANH, {}, "tanh form"),
        ([], {"out_zero": np.uint16(7)}, "its dtype is uint16, not one of int8, uint8"),
    ],
)
def test_what_it_refuses(
    activation: list[Any], changed: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """Each with its reason, and the graph stays as it is."""
    found = _swap(_graph(activation, 21, **changed), tmp_path)
    assert dict(found.sites) == {"dequant_bias_act_quant": 0}
    assert [reason in r.reason for r in found.refused] == [True], found.refused


def test_a_zero_point_may_be_left_out_by_an_empty_name(tmp_path: Path) -> None:
    """ONNX allows a trailing input without a name: it is absent like one that is not there."""
    proto = _graph(RELU)
    for absent in ([""], []):
        proto.graph.node[-1].input[2:] = absent
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
        (refusal,) = _swap(proto, tmp_path).refused
        assert refusal.reason == "its QuantizeLinear has no zero point"


def test_dynamic_quantization_is_refused_with_the_reason(tmp_path: Path) -> None:
    """What our own recipe int8_dynamic writes: the next step is known only after all values."""
    draw = np.random.default_rng(5)
    weights = {n: draw.normal(size=(16, 16)).astype(np.float32) for n in ("w1", "w2")}
    weights["b1"] = draw.normal(size=16).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"]),
        helper.make_node("Add", ["m", "b1"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["y"]),
    ]
    x = ("x", TensorProto.FLOAT, ["B", 16])
    onnx.save(_model(nodes, weights, x, ("y", TensorProto.FLOAT), 17), tmp_path / "fp32.onnx")
    made = int8_dynamic.apply(graph.describe(tmp_path / "fp32.onnx", ()), None, STYLE, {}, tmp_path)
    found = swap(made.model, tmp_path / "out", ("dequant_bias_act_quant",))
    assert dict(found.sites) == {"dequant_bias_act_quant": 0}
    reasons = [r.reason for r in found.refused]
    assert len(reasons) == 2
    assert any("DynamicQuantizeLinear" in reason for reason in reasons)
    assert any("is used elsewhere" in reason for reason in reasons)  # the model's own output


def test_a_qdq_graph_has_no_site(tmp_path: Path) -> None:
    """There is no integer product in it, so nothing is put in and nothing is refused."""
    draw = np.random.default_rng(6)
    weights = _weights(w=draw.normal(size=(16, COLUMNS)).astype(np.float32))
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "out_scale", "x_zero"], ["real"]),
        helper.make_node("MatMul", ["real", "w"], ["m"]),
        helper.make_node("Add", ["m", "bias"], ["v"]),
        helper.make_node("Relu", ["v"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "out_scale", "out_zero"], ["y"]),
    ]
    x = ("x", TensorProto.UINT8, ["B", 16])
    found = _swap(_model(nodes, weights, x, ("y", TensorProto.INT8), 20), tmp_path)
    assert dict(found.sites) == {"dequant_bias_act_quant": 0}
    assert not found.refused
