"""What is advised against an outlier channel does something for the products that read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from accel import graph, testing
from accel.questions.explain import explain
from accel.recipes import int8_mixed
from tests.explaining.planted import U8S8

BETWEEN = {"k0": (3,), "c0": (3,), "k1": (slice(None), 3)}  # r0's channel 3, in the convnet
DENSE = {"w0": (slice(None), 3), "w1": (3,)}  # and in the mlp


@pytest.mark.parametrize(
    ("network", "operator", "weights", "advised"),
    [
        ("convnet", "Relu", BETWEEN, "--variant 3"),
        ("mlp", "Relu", DENSE, "--variant 2"),
        ("convnet", "LeakyRelu", BETWEEN, "leave it in float32"),
    ],
    ids=["between convolutions", "before a product by a matrix", "neither"],
)
def test_the_advice_fits_what_reads_the_value(
    network: str, operator: str, weights: dict[str, Any], advised: str, tmp_path: Path
) -> None:
    """Scales move through a ReLU into the next convolution, into a product by a matrix, or nowhere."""
    wide = {"channels": 16} if network == "convnet" else {"width": 32}
    model = getattr(testing, network)(tmp_path / "m.onnx", **wide)
    proto, (*_, last) = onnx.load(model.path), weights
    next(n for n in proto.graph.node if n.output[0] == "r0").op_type = operator
    for name, index in weights.items():
        tensor = next(t for t in proto.graph.initializer if t.name == name)
        values = numpy_helper.to_array(tensor).copy()
        values[index] *= 1 / 500 if name == last else 500
        tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(proto, model.path)
    shape, draw = [8, *model.inputs[0].shape[1:]], np.random.default_rng(4)
    feeds = [{"x": draw.normal(size=shape).astype(np.float32)} for _ in range(6)]
    (tmp_path / "q").mkdir()
    described, options = graph.describe(model.path), {"ranges": "minmax"}
    made = int8_mixed.apply(described, feeds, U8S8, options, tmp_path / "q")
    found = explain(made.model.path, model.path, feeds).suspects[0]
    assert (found.kind, found.value) == ("outlier channel", "r0" if operator == "Relu" else "p0")
    assert advised in found.mend
    assert ("accel quantize" in found.mend) == advised.startswith("--")
