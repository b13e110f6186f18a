"""int8_mixed of products whose weight is no matrix, or whose activation is a vector, in the engines themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from accel import graph
from accel.recipes import int8_mixed
from accel.values import QuantStyle

F = onnx.TensorProto.FLOAT
DRAW = np.random.default_rng(3)
STYLES = {
    "onnxruntime": QuantStyle(True, False, True, False, True),
    "openvino": QuantStyle(True, False, True, False, True, operators=("openvino",), pairs="inputs"),
}
SHAPES = {
    "a stack of matrices": ((2, 3, 5, 16), (3, 16, 8), (2, 3, 5, 8)),
    "a vector": ((64,), (64, 32), (32,)),
}


def product(of: str) -> Any:
    """y = x W of these shapes."""
    x, w, y = SHAPES[of]
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")], "g",
        [helper.make_tensor_value_info("x", F, x)], [helper.make_tensor_value_info("y", F, y)],
        [numpy_helper.from_array(DRAW.normal(size=w).astype(np.float32), "w")],
    )  # fmt: skip
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def onnx_runtime(path: Path) -> Callable[[Any], Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)[0]


def openvino(path: Path) -> Callable[[Any], Any]:
    ov = pytest.importorskip("openvino", reason="of the openvino extra; instead: ONNX Runtime's")
    held = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda feed: np.array(held(feed)[0])


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("engine", STYLES)
@pytest.mark.parametrize("of", SHAPES)
def test_the_product_is_int8_and_right(
    of: str, engine: str, symmetric: bool, tmp_path: Path
) -> None:
    """Of the fp32 product's shape, and within a few hundredths of it, with zero points and without."""
    exact = product(of)
    onnx.save(exact, tmp_path / "m.onnx")
    feeds = [{"x": DRAW.normal(size=SHAPES[of][0]).astype(np.float32) + 0.3} for _ in range(4)]
    options = {"ranges": "minmax", "correct": True, "symmetric": symmetric}
    described = graph.describe(tmp_path / "m.onnx")
    (tmp_path / "made").mkdir()
    made = int8_mixed.apply(described, feeds, STYLES[engine], options, tmp_path / "made")
    assert made.facts["int8"] == 1
    answers = {"onnxruntime": onnx_runtime, "openvino": openvino}[engine](made.model.path)
    for feed in feeds:
        want, got = onnx_runtime(tmp_path / "m.onnx")(feed), answers(feed)
        assert got.shape == want.shape
        assert np.linalg.norm(got - want) < 0.04 * np.linalg.norm(want)
