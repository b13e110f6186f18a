"""Graphs of an older opset are quantized too: they are raised to one whose Q/DQ has an axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from accel import catalog, graph, testing
from accel.errors import CandidateBroken
from accel.target import load
from accel.values import Model, QuantStyle


@pytest.mark.parametrize("engine", ["onnxruntime_cpu", "openvino"])
def test_int8_static_of_an_opset_7_graph_is_valid(tmp_path: Path, engine: str) -> None:
    """The quantized graph opens, runs, is near the original, and its story says what was done."""
    path = testing.mlp(tmp_path / "mlp.onnx").path
    proto = onnx.load(path)
    del proto.opset_import[:]
    proto.opset_import.append(onnx.helper.make_opsetid("", 7))
    onnx.save(proto, path)
    model = graph.describe(path)
    feeds = [{"x": np.random.default_rng(i).normal(size=(4, 8)).astype("f4")} for i in range(4)]
    style = catalog.load("engines", engine).style(load("cpu-local"))
    recipe = catalog.load("recipes", "int8_static")
    out = tmp_path / "out"
    out.mkdir()
    made = recipe.apply(model, feeds, style, recipe.variants(style)[0], out)
    wanted, found = (
        onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]).run(None, feeds[0])[0]
        for p in (path, made.model.path)
    )
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()
    assert "raised to opset 13" in made.model.trail[-1]
    assert [p.name for p in out.iterdir()] == ["model.onnx"]


CALLED = """<ir_version: 8, opset_import: ["" : OPSET, "accel.kernels" : 1, "my" : 1]>
g (float[2,64] x, bool c) => (float[2,64] y) {
  h = my.act(x)
  k = MatMul(h, w)
  m = accel.kernels.kernel(k)
  y = If (c) <
    then_branch = t () => (float[2,64] a) { a = Identity(m) },
    else_branch = e () => (float[2,64] b) { b = my.act(m) }
  >
}
<domain: "accel.kernels", opset_import: ["" : OPSET]> kernel (x) => (y) { y = Relu(x) }
<domain: "my", opset_import: ["" : OWN, "accel.kernels" : 1]>
act (x) => (y) { h = accel.kernels.kernel(x) y = Abs(h) }"""
OPENVINO = QuantStyle(True, False, True, False, True, operators=("openvino",), pairs="inputs")
TENSORRT = QuantStyle(True, True, True, True, True, operators=("tensorrt",), pairs="inputs")
MIXED = {"ranges": "mse", "correct": True}


def _called(path: Path, opset: int, own: int) -> Model:
    """y = f(x) w and more, f a function of the model's, of the opset `own`."""
    proto = parser.parse_model(CALLED.replace("OPSET", str(opset)).replace("OWN", str(own)))
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype("f4")
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(proto, path)
    return graph.describe(path)


@pytest.mark.parametrize(
    ("recipe", "options", "style", "opset"),
    [
        ("weight_only", {"bits": 4, "block": 32}, OPENVINO, 17),
        ("int8_mixed", MIXED, OPENVINO, 12),
        ("int8_mixed", {**MIXED, "rest": "float16"}, TENSORRT, 17),
        ("int8_static", {"tool": "nncf", "activations": "symmetric"}, OPENVINO, 12),
    ],
)
def test_a_raised_graph_has_the_bodies_of_its_functions(
    recipe: str, options: dict[str, object], style: QuantStyle, opset: int, tmp_path: Path
) -> None:
    """The converter drops functions, and a graph that calls what is not there runs nowhere."""
    model = _called(tmp_path / "called.onnx", opset, opset)
    rng = np.random.default_rng(1)
    feeds = [
        {"x": rng.normal(size=(2, 64)).astype("f4"), "c": np.array(bool(i % 2))} for i in range(4)
    ]
    (tmp_path / "out").mkdir()
    member = catalog.load("recipes", recipe)
    made = member.apply(model, feeds, style, options, tmp_path / "out")
    providers = ["CPUExecutionProvider"]
    for feed in feeds:
        wanted, found = (
            onnxruntime.InferenceSession(p, providers=providers).run(None, feed)[0]
            for p in (model.path, made.model.path)
        )
        assert np.abs(found - wanted).mean() < 0.15 * np.abs(wanted).mean()


def test_functions_that_cannot_be_inlined_are_told(tmp_path: Path) -> None:
    """The graph is refused in words, not written without them."""
    model = _called(tmp_path / "called.onnx", 17, 16)
    recipe = catalog.load("recipes", "weight_only")
    with pytest.raises(
        CandidateBroken,
        match=r"opset 17 is below 21.* onnx cannot inline the model's functions .*my\.act",
    ):
        recipe.apply(model, None, OPENVINO, {"bits": 4, "block": 32}, tmp_path)
