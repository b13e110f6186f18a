"""Pairs that round and do something else as well: what a fix makes of them answers as they did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from accel import legality
from accel.values import Target
from tests.legality.test_lint import CPU, GPU, put, residual, run

CLAMPED = """
<ir_version: 9, opset_import: ["" : 19]>
g (float[4, 3, 8, 8] x) => (float[4, 3, 8, 8] y, float[4, 3, 8, 8] x__above)
<float s = {0.02}>
{ x__above = Neg(x)  q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }
"""


@pytest.mark.parametrize("least", [np.uint8(0), np.int8(-128)])
def test_a_rounding_that_is_a_relu_stays_one(tmp_path: Path, least: np.generic) -> None:
    """ONNX Runtime's quantizer takes a Relu out where the least integer is 0: of a symmetric pair it is not."""
    proto = onnx.parser.parse_model(CLAMPED)
    put(proto, "z", least)
    onnx.save(proto, tmp_path / "m.onnx")
    (line,) = legality.fix(tmp_path / "m.onnx", GPU, tmp_path / "fixed.onnx", "qdq")
    assert line.endswith("behind a Relu")
    made = onnx.load(tmp_path / "fixed.onnx")
    onnx.checker.check_model(made, full_check=True)
    assert run(made).min() >= 0
    assert np.abs(run(made) - run(proto)).max() < 0.04


TWICE = """
<ir_version: 9, opset_import: ["" : 19]>
g (float[4, 3, 8, 8] x) => (float[4, 3, 8, 8] y)
<float s = {0.02}, uint8 z = {0}, float low = {0}>
{
  h = MAKER
  q1 = QuantizeLinear(h, s, z)  d1 = DequantizeLinear(q1, s, z)
  p = MaxPool<kernel_shape = [1, 1]>(d1)
  q2 = QuantizeLinear(p, s, z)  y = DequantizeLinear(q2, s, z)
}
"""


@pytest.mark.parametrize(
    ("maker", "count"), [("Identity(x)", 1), ("Relu(x)", 1), ("Sigmoid(x)", 0), ("Clip(x, low)", 0)]
)
def test_what_is_never_below_0_gets_no_relu(tmp_path: Path, maker: str, count: int) -> None:
    """Nor does a second rounding, of what the first one let through."""
    proto = onnx.parser.parse_model(TWICE.replace("MAKER", maker))
    onnx.save(proto, tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", GPU, tmp_path / "fixed.onnx", "qdq")
    made = onnx.load(tmp_path / "fixed.onnx")
    onnx.checker.check_model(made, full_check=True)
    assert [n.op_type for n in made.graph.node].count("Relu") == count
    assert np.abs(run(made) - run(proto)).max() < 0.04


UNLIKE = """
<ir_version: 9, opset_import: ["" : 19]>
g (float[4, 3, 8, 8] x) => (float[4, 3, 8, 8] y)
<float s = {0.1}, int8 z = {3}, float t = {0.2}, int8 u = {5}>
{ q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, t, u) }
"""


@pytest.mark.parametrize("target", [CPU, GPU], ids=lambda t: t.name)
def test_a_pair_of_two_scales_keeps_both(tmp_path: Path, target: Target) -> None:
    """Its halves' numbers may differ: neither are the other's, so nothing is changed, nor accused."""
    onnx.save(onnx.parser.parse_model(UNLIKE), tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", target, tmp_path / "fixed.onnx", "qdq") == ()
    assert legality.check(tmp_path / "m.onnx", target, only="qdq_signs") == ()


def _renamed(proto: Any, slot: int, name: str, *nodes: str) -> None:
    for node in proto.graph.node:
        if node.name in nodes:
            node.input[slot] = name


def clamps(proto: Any) -> None:
    """As ONNX Runtime quantizes x + relu(conv(x))."""
    put(proto, "u", np.uint8(0))
    _renamed(proto, 2, "u", "c_Q", "c_DQ")


def is_given_out(proto: Any) -> None:
    port = helper.make_tensor_value_info("c_q", TensorProto.INT8, ["n", 3, 8, 8])
    proto.graph.output.append(port)


def scales(proto: Any) -> None:
    put(proto, "t", np.float32(0.1))
    _renamed(proto, 1, "t", "c_DQ")


@pytest.mark.parametrize("edit", [clamps, is_given_out, scales], ids=lambda e: e.__name__)
def test_a_pair_that_does_more_than_round_stays(
    tmp_path: Path, edit: Callable[[Any], None]
) -> None:
    """Before a residual addition a pair goes only where half a step is all that goes with it."""
    proto = residual(True)
    edit(proto)
    onnx.save(proto, tmp_path / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    for target in (CPU, GPU):
        assert legality.check(tmp_path / "m.onnx", target, only="qdq_residual") == ()
        assert (
            legality.fix(tmp_path / "m.onnx", target, tmp_path / "out.onnx", "qdq_residual") == ()
        )


def test_a_pair_of_4_bits_is_left_alone(tmp_path: Path) -> None:
    """With a zero point, which TensorRT has none of: int8 would be another type than was meant."""
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[4, 3, 8, 8] x) => (float[4, 3, 8, 8] y)
    <float s = {0.1}>
    { q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }
    """
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(helper.make_tensor("z", TensorProto.UINT4, [], [8]))
    onnx.save(proto, tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", GPU, tmp_path / "fixed.onnx", "qdq") == ()


def test_a_transpose_moves_the_axis_of_the_scales(tmp_path: Path) -> None:
    """A kernel as TensorFlow keeps it, its output channels last: they are first where it is read."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4, 3, 8, 8] x) => (float[4, 5, 6, 6] y)
    <float sx = {0.05}, int8 zx = {0}>
    {
      q = QuantizeLinear(x, sx, zx)  a = DequantizeLinear(q, sx, zx)
      d = DequantizeLinear<axis = 3>(w, s, z)  t = Transpose<perm = [3, 2, 0, 1]>(d)
      y = Conv(a, t)
    }
    """
    proto = onnx.parser.parse_model(text)
    put(proto, "w", np.ones((3, 3, 3, 5), np.int8))
    put(proto, "s", np.full(5, 0.1, np.float32))
    put(proto, "z", np.zeros(5, np.int8))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, tmp_path / "m.onnx")
    found = legality.check(tmp_path / "m.onnx", GPU, only="qdq")
    assert not [f for f in found if f.level == "error"], found
