"""Products that a quantizer writes as other operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from accel import testing
from accel.questions.explain import explain
from accel.recipes import int8_dynamic, int8_mixed, weight_only
from accel.values import Options, QuantStyle
from tests.explaining.planted import U8S8

FOUR = {"bits": 4, "block": 32}
LEFT = {"ranges": "minmax", "float": ["matmul_p0"], "left": "dynamic"}
BLOCKED = QuantStyle(True, False, True, False, True, operators=("openvino",))


@pytest.mark.parametrize(
    ("network", "recipe", "style", "options", "kinds"),
    [
        ("convnet", int8_dynamic, U8S8, {}, {"rounded product"}),
        ("mlp", int8_mixed, U8S8, LEFT, {"rounded product", ""}),
        ("convnet", weight_only, U8S8, FOUR, {"rounded product"}),
        ("convnet", weight_only, BLOCKED, FOUR, {"rounded product"}),
        ("mlp", weight_only, U8S8, FOUR, {"rounded product"}),
    ],
    ids=["dynamic", "left dynamic", "Gemm of 4 bits", "Gemm of blocks", "MatMul of 4 bits"],
)
def test_sound_rounding_by_other_operators_is_no_fault(
    network: str, recipe: Any, style: QuantStyle, options: Options, kinds: set[str], tmp_path: Path
) -> None:
    """It is told for what it is, and no pass has to be mended."""
    wide = {"channels": 32, "classes": 32} if network == "convnet" else {"width": 64}
    model = getattr(testing, network)(tmp_path / "m.onnx", **wide)
    shape, draw = [16, *model.inputs[0].shape[1:]], np.random.default_rng(3)
    feeds = [{"x": draw.normal(size=shape).astype(np.float32)} for _ in range(3)]
    (tmp_path / "q").mkdir()
    made = recipe.apply(model, feeds, style, options, tmp_path / "q").model.path
    found = explain(made, model.path, feeds)
    assert {s.kind for s in found.suspects} - {"int8 pair-sum saturation"} == kinds
    assert found.untold == ()


def test_nodes_without_names_are_taken_back(tmp_path: Path) -> None:
    """Two of them lead to one value: the copies have no name either, for two of one name are refused."""
    draw, text = np.random.default_rng(3), """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 8] x) => (float[n, 8] y) {{ p = MatMul(x, w)  {} }}
    """  # fmt: skip
    weight = onnx.numpy_helper.from_array(draw.normal(size=(8, 8)).astype(np.float32), "w")
    for name, nodes in (("one", "t = Relu(p) y = Neg(t)"), ("two", "y = Neg(p)")):
        proto = onnx.parser.parse_model(text.format(nodes))
        proto.graph.initializer.append(weight)
        onnx.save(proto, tmp_path / f"{name}.onnx")
    feeds = [{"x": draw.normal(size=(4, 8)).astype(np.float32)}]
    found = explain(tmp_path / "two.onnx", tmp_path / "one.onnx", feeds)
    assert found.untold == ()
    assert not found.suspects[0].alone
    assert found.suspects[0].recovered > 0.99
