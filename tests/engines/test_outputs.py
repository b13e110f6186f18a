"""Outputs keep the names that the graph gives them, and a module what the plan asks for."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from accel import graph, target
from accel.values import Model, Request

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, n] x) => (float[batch, n] y, float[batch, n] z, float[batch, n] same) {
  a = Relu(x)
  y = Identity(a)
  z = Identity(a)
  same = Identity(x)
}"""
FEED = {"x": np.array([[-1.0, 2.0, 3.0]], np.float32)}
HERE = target.load("cpu-single-core")


def test_an_output_is_called_what_the_graph_calls_it(member: Any, tmp_path: Path) -> None:
    """Where it is another value by another name, twice, or an input: an engine may make one of them."""
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "m.onnx")
    model = graph.describe(tmp_path / "m.onnx")
    requests = [Request("only", 1.0, FEED)]
    beyond = {"x": np.array([[-1.0] * 9] * 2, np.float32)}  # in no bucket
    for i, options in enumerate(member.options("fp32", HERE, requests, {"x": 0.0})):
        (tmp_path / str(i)).mkdir()
        plan = member.build(model, HERE, options, requests, tmp_path / str(i))
        with closing(member.load(plan)) as session:
            for feed in (FEED, beyond):
                found, relu = session(feed), np.maximum(feed["x"], 0)
                assert list(found) == ["y", "z", "same"]
                for name, wanted in (("y", relu), ("z", relu), ("same", feed["x"])):
                    np.testing.assert_array_equal(found[name], wanted)


NET = """
import torch
torch.set_num_threads(2)

class Net(torch.nn.Module):
    def forward(self, first, second):
        return first - second

def model():
    torch.set_num_threads(3)
    return Net()

outputs = ("y",)
"""
DIFFERENCE = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n] a, float[n] b) => (float[n] y) { y = Sub(a, b) }"""


@pytest.fixture
def difference(tmp_path: Path) -> Model:
    """A graph beside a module whose parameters have other names."""
    (tmp_path / "net.py").write_text(NET)
    onnx.save(onnx.parser.parse_model(DIFFERENCE), tmp_path / "m.onnx")
    return graph.describe(tmp_path / "m.onnx")


def test_eager_takes_the_threads_of_its_plan(difference: Model, tmp_path: Path) -> None:
    """Whatever the user's file sets when it is read, or when it makes the model."""
    torch = pytest.importorskip("torch", reason="PyTorch is absent; instead: the tests above")
    from accel.engines import torch_eager

    words = {"workload": str(tmp_path / "net.py"), "threads": 1}
    before = torch.get_num_threads()
    try:
        plan = torch_eager.build(difference, HERE, words, [], tmp_path)
        with closing(torch_eager.load(plan)):
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_eager_is_called_in_the_order_of_the_inputs(difference: Model, tmp_path: Path) -> None:
    """Where names do not tell which is which, a feed's own order must not."""
    torch = pytest.importorskip("torch", reason="PyTorch is absent; instead: the tests above")
    from accel.engines import torch_eager

    words, before = {"workload": str(tmp_path / "net.py")}, torch.get_num_threads()
    one, two = np.ones(2, np.float32), np.full(2, 2.0, np.float32)
    try:
        plan = torch_eager.build(difference, HERE, words, [], tmp_path)
        with closing(torch_eager.load(plan)) as session:
            np.testing.assert_array_equal(session({"b": one, "a": two})["y"], [1.0, 1.0])
    finally:
        torch.set_num_threads(before)
