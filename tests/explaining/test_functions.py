"""References that keep parts of their graph in functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from accel import graph
from accel.questions.explain import explain
from accel.recipes import int8_mixed
from tests.explaining.planted import U8S8, changed, scaled

TEXT = """
<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[n, 16] x) => (float[n, 8] y) { h = own.layer(x, w)  y = MatMul(h, v) }
<domain: "own", opset_import: ["" : 17]> layer (x, w) => (y) { p = MatMul(x, w)  y = Relu(p) }
"""


def test_a_weight_of_a_function_is_taken_back(tmp_path: Path) -> None:
    """The reference is read as recipes read it, which wrote the body in the call's place."""
    draw = np.random.default_rng(7)
    proto = onnx.parser.parse_model(TEXT)
    for name, shape in (("w", (16, 16)), ("v", (16, 8))):
        values = draw.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(proto, tmp_path / "m.onnx")
    (tmp_path / "q").mkdir()
    feeds = [{"x": draw.normal(size=(32, 16)).astype(np.float32)} for _ in range(2)]
    described, options = graph.describe(tmp_path / "m.onnx"), {"ranges": "minmax"}
    made = int8_mixed.apply(described, feeds, U8S8, options, tmp_path / "q").model.path
    found = explain(changed(made, tmp_path, scaled("w__scale", 3)), tmp_path / "m.onnx", feeds)
    assert found.untold == ()
    assert found.suspects[0].part.startswith("weight (input 1)")
    assert found.suspects[0].kind == "wrong or stale scale"
    assert found.suspects[0].recovered > 0.9
