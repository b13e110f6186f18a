"""What the recipes make for TensorRT, which quantizes symmetrically and casts nothing itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from accel import catalog, target, testing
from accel.values import Model

STYLE = catalog.load("engines", "tensorrt").style(target.load("h100"))
INT8 = catalog.load("recipes", "int8_static")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Two convolutions, each with Relu, and a Gemm with its bias."""
    return testing.convnet(tmp_path / "convnet.onnx")


def feeds(count: int = 8) -> list[dict[str, np.ndarray]]:
    """Of two images each."""
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(size=(2, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("options", INT8.variants(STYLE), ids=lambda o: str(o["method"]))
def test_int8_static_quantizes_as_its_kernels_read_it(
    model: Model, options: dict[str, str], tmp_path: Path
) -> None:
    """Signed, no zero point, weights per channel, activations per tensor; biases stay as they are, and
    nothing stands between an operator with weights and the Relu that it is fused with."""
    made = INT8.apply(model, feeds(), STYLE, options, tmp_path)
    proto = onnx.load(made.model.path)
    held = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    makers = {o: n for n in proto.graph.node for o in n.output}
    pairs = [n for n in proto.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in pairs:
        zero = held[node.input[2]]
        assert zero.dtype == np.int8, node.name
        assert not zero.any(), node.name
        assert (held[node.input[1]].ndim == 1) == (node.input[0] in held), node.name
    for node in proto.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert [makers[i].op_type for i in node.input[:2]] == ["DequantizeLinear"] * 2
            assert all(held[i].dtype == np.float32 for i in node.input[2:])
        if node.op_type == "Relu":
            assert makers[node.input[0]].op_type == "Conv"
    assert sum(n.op_type == "QuantizeLinear" for n in pairs) == 3


def test_int8_static_still_answers_as_the_graph_did(model: Model, tmp_path: Path) -> None:
    """To the accuracy of 8 bits, in ONNX Runtime."""
    made = INT8.apply(model, feeds(), STYLE, {"tool": "onnxruntime", "method": "MinMax"}, tmp_path)
    found, wanted = (
        onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]).run(None, feeds(1)[0])[
            0
        ]
        for p in (made.model.path, model.path)
    )
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    assert np.abs(found - wanted).max() > 0


def test_fp32_keeps_to_standard_operators() -> None:
    """The fused graph holds ONNX Runtime's own, which TensorRT's parser does not know."""
    assert catalog.load("recipes", "fp32").variants(STYLE) == ({},)
