"""Graphs of an older opset are quantized too: they are raised to one whose Q/DQ has an axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from accel import catalog, graph, testing
from accel.target import load


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
