"""An input of no axes stays one: engines that want arrays without gaps must not give it an axis."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from accel import graph, target
from accel.values import Request

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, n] x, float factor) => (float[batch, n] y, float total) {
  y = Mul(x, factor)
  total = ReduceSum <keepdims = 0> (y)
}"""
FEED = {"x": np.ones((1, 3), np.float32), "factor": np.array(2.0, np.float32)}
HERE = target.load("cpu-single-core")


def test_a_scalar_goes_in_and_comes_out(member: Any, tmp_path: Path) -> None:
    """By every way that the engine has, padded ones too: the same value, of no axes."""
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "m.onnx")
    model = graph.describe(tmp_path / "m.onnx")
    requests = [Request("only", 1.0, {**FEED, "x": np.ones((1, 5), np.float32)})]
    for i, options in enumerate(member.options("fp32", HERE, requests, {"x": 0.0, "factor": 0.0})):
        (tmp_path / str(i)).mkdir()
        plan = member.build(model, HERE, options, requests, tmp_path / str(i))
        with closing(member.load(plan)) as session:
            found = session(FEED)
            session.bind(FEED)()
        assert found["total"] == 6.0
        assert found["total"].shape == ()
        assert isinstance(found["total"], np.ndarray)
        np.testing.assert_array_equal(found["y"], [[2.0, 2.0, 2.0]])


def test_torch_gets_no_axis_either(tmp_path: Path) -> None:
    """Eager mode, and the tensors that a compiled module is called with."""
    pytest.importorskip("torch", reason="PyTorch is absent; instead: the test above")
    from accel.engines import _torch_program, torch_eager

    source = tmp_path / "net.py"
    source.write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x, factor): return x * factor.reshape(()), torch.tensor(factor.dim())\n"
        "def model(): return Net()\n"
        "outputs = ('y', 'axes')\n"
    )
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "m.onnx")
    model = graph.describe(tmp_path / "m.onnx")
    (tmp_path / "out").mkdir()
    plan = torch_eager.build(model, HERE, {"workload": str(source)}, [], tmp_path / "out")
    assert torch_eager.load(plan)(FEED)["axes"] == 0
    assert [t.dim() for t in _torch_program.tensors_of(FEED, model.inputs, "cpu")] == [2, 0]
