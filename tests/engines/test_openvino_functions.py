"""OpenVINO has no functions of a model: their bodies stand in their nodes' place, or the build says why not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from accel import catalog, graph, target
from accel.errors import CandidateBroken
from accel.values import Plan

pytest.importorskip("openvino", reason="openvino is absent; instead: tests/test_flatten.py")

CALLS = """<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
g (float[2,4] x, bool c) => (float[2,4] y) {
  y = If (c) <
    then_branch = t () => (float[2,4] p) { p = my.act(x) },
    else_branch = e () => (float[2,4] q) { q = Neg(x) }
  >
}
<domain: "my", opset_import: ["" : OPSET]> act (x) => (y) { y = Softmax(x) }"""


def _built(opset: int, folder: Path) -> Plan:
    onnx.save(onnx.parser.parse_model(CALLS.replace("OPSET", str(opset))), folder / "m.onnx")
    (folder / "out").mkdir()
    model, here = graph.describe(folder / "m.onnx"), target.load("cpu-local")
    options = {"threads": 1, "precision": "f32"}
    plan: Plan = catalog.load("engines", "openvino").build(model, here, options, [], folder / "out")
    return plan


def test_a_function_in_a_branch_is_written_out(tmp_path: Path) -> None:
    """Where it is of the model's own opset."""
    assert _built(17, tmp_path).facts["inlined"] == "my.act"


def test_one_that_onnx_cannot_write_out_is_told(tmp_path: Path) -> None:
    """Of another opset, in a branch: onnx knows no types there. No bare error of its own comes out."""
    with pytest.raises(CandidateBroken, match=r"cannot put these .*: my\.act"):
        _built(16, tmp_path)
