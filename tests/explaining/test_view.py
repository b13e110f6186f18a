"""Weights that a graph holds only in a form that nothing can be told from."""

from __future__ import annotations

import onnx
import pytest

from accel.explaining.view import View


def test_a_weight_behind_a_pair_of_float8_is_not_made_up() -> None:
    """Float8 has no steps to round to: the weight is told as unknown, and no error escapes."""
    text = """
    <ir_version: 10, opset_import: ["" : 19]>
    g (float[n, 4] x) => (float[n, 4] y)
    <float s = {0.1}, float[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}>
    {
      q = QuantizeLinear(w, s, zero)  d = DequantizeLinear(q, s, zero)  y = MatMul(x, d)
    }
    """
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True)
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(zero)
    view = View(proto)
    assert view.array("d") is None


@pytest.mark.parametrize("nodes", [
    "d = DequantizeLinear(whole, three)",
    "q = QuantizeLinear(w, three)  d = DequantizeLinear(q, three)",
    "d = DequantizeLinear <axis = 0, block_size = 1> (whole, blocks)",
], ids=["DQ", "Q and DQ", "blocks"])  # fmt: skip
def test_a_weight_whose_scales_do_not_fit_is_unknown(nodes: str) -> None:
    """Numpy's refusal to broadcast does not escape."""
    text = f"""
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[n, 4] x) => (float[n, 2] y)
    <float[3] three = {{1,2,3}}, float[3, 2] blocks = {{1,2,3,4,5,6}},
     float[4, 2] w = {{1,2,3,4,5,6,7,8}}, uint8[4, 2] whole = {{1,2,3,4,5,6,7,8}}>
    {{ {nodes}  y = MatMul(x, d) }}
    """
    assert View(onnx.parser.parse_model(text)).array("d") is None


@pytest.mark.parametrize(("options", "kind"), [("", "uint8"), ("<output_dtype = 3>", "int8")])
def test_a_zero_point_that_is_left_out_is_of_the_type_that_the_node_says(
    options: str, kind: str
) -> None:
    """As int8, it gives back what is below 0: none of that is clipped."""
    text = f"""
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[n] x) => (float[n] y) <float s = {{0.1}}>
    {{ q = QuantizeLinear {options} (x, s)  y = DequantizeLinear(q, s) }}
    """
    view = View(onnx.parser.parse_model(text))
    found = view.pair(view.node("q"))
    assert found is not None
    assert found[1].dtype == kind
