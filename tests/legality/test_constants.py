"""What rules take for constant, and of what type: names that branches share, and values that say something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from accel import legality
from accel.legality import _graph
from tests.legality.building import B, H, model, node, target, weight

BRANCHES = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1] x, int64[1] i, bool b) => (float[1] y)
{
  y = If(b) <
    then_branch = t () => (float[1] p) {
      c = Constant<value = int64[1] {1}>()
      s = Add(i, c)
      p = Cast<to = 1>(s)
    },
    else_branch = e () => (float[1] q) {
      c = Constant<value = float[1] {1.0}>()
      q = Add(x, c)
    }
  >
}
"""


def test_a_name_that_branches_share_is_two_values(tmp_path: Path) -> None:
    """They do not see each other: an integer in one is no operand of the other's floats."""
    onnx.save(onnx.parser.parse_model(BRANCHES), tmp_path / "m.onnx")
    assert legality.check(tmp_path / "m.onnx", target(), only="typed") == ()
    graph = _graph.view(tmp_path / "m.onnx")
    assert (graph.dtype("c"), graph.dtype("q")) == ("", "FLOAT")


AXES = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2, 8] x, bool b) => (float[m, n] y)
{
  y = If(b) <
    then_branch = t () => (float[1, 8] p) {
      c = Constant<value = int64[1] {0}>()
      k = Constant<value = float[1] {2.0}>()
      r = ReduceSum(x, c)
      p = Mul(r, k)
    },
    else_branch = e () => (float[2, 1] q) {
      c = Constant<value = int64[1] {1}>()
      k = Constant<value = float[1] {2.0}>()
      s = ReduceSum(x, c)
      q = Mul(s, k)
    }
  >
}
"""


def test_what_branches_have_in_common_is_known(tmp_path: Path) -> None:
    """A constant of each stays a constant; its type is told where it is one, and its values too."""
    onnx.save(onnx.parser.parse_model(AXES), tmp_path / "m.onnx")
    assert legality.check(tmp_path / "m.onnx", target(), only="limits") == ()
    graph = _graph.view(tmp_path / "m.onnx")
    assert graph.dtype("c") == "INT64"
    assert graph.sizes["c"] == (1,)
    assert graph.value("c") is None
    assert graph.value("k").tolist() == [2.0]


@pytest.mark.parametrize(
    ("values", "accused"),
    [(-np.inf, False), ([0, -np.inf], False), (np.inf, True), ([1, -np.inf], True), (np.nan, True)],
)
def test_a_mask_of_minus_infinity_is_meant(tmp_path: Path, values: object, accused: bool) -> None:
    """masked_fill(-inf) before a Softmax, or 0 and -inf to be added; any other such weight has left the range."""
    proto = model(
        [node("Where", "m c x", "y")],
        [("m", B, [2, 2]), ("x", H, [2, 2])],
        [("y", H, [2, 2])],
        [weight("c", values, "float16")],
    )
    onnx.save(proto, tmp_path / "m.onnx")
    found = legality.check(tmp_path / "m.onnx", target(), only="fp16_range")
    assert [f.level for f in found] == ["error"] * accused
