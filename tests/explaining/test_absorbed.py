"""Activations that a quantizer took out, since the rounding behind them clips alike; and those that a pass lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from accel import graph
from accel.explaining.parts import parts
from accel.explaining.revert import restored
from accel.explaining.view import View
from accel.questions.explain import explain
from accel.recipes import int8_static
from accel.values import Model
from tests.explaining.planted import U8S8, changed, scaled

STATIC = {"tool": "onnxruntime", "method": "MinMax"}
SOUND = {"", "int8 pair-sum saturation"}


def dropped(proto: Any) -> None:
    """The first convolution makes r0 itself."""
    node = next(n for n in proto.graph.node if n.output[0] == "r0")
    maker = next(n for n in proto.graph.node if node.input[0] in n.output)
    maker.output[0] = "r0"
    proto.graph.node.remove(node)
    proto.graph.ClearField("value_info")


def shifted(proto: Any) -> None:
    """Nor does the rounding behind it clip: its range begins far below 0."""
    dropped(proto)
    tensor = next(t for t in proto.graph.initializer if t.name == "r0__zero")
    tensor.CopyFrom(numpy_helper.from_array(np.uint8(120), tensor.name))
    scaled("r0__scale", 2)(proto)


@pytest.fixture(scope="module")
def clipped(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clip(0, 1) in the place of the first ReLU."""
    proto = onnx.load(model.path)
    ends = {"least": 0.0, "most": 1.0}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.float32(v), n) for n, v in ends.items()
    )
    node = next(n for n in proto.graph.node if n.output[0] == "r0")
    node.CopyFrom(helper.make_node("Clip", [node.input[0], *ends], ["r0"]))
    path = tmp_path_factory.mktemp("clipped") / "m.onnx"
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("change", [dropped, shifted], ids=["of a float graph", "before a pair"])
def test_a_relu_that_a_pass_lost_is_named_first(
    int8: Path, model: Model, feeds: Any, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    """And nothing else is credited with what putting it back mends."""
    path = model.path if change is dropped else int8
    found = explain(changed(path, tmp_path, change), model.path, feeds).suspects
    assert (found[0].value, found[0].kind) == ("r0", "other operator")
    assert found[0].recovered > 0.8
    assert all(s.recovered < 0.5 for s in found if s.value != "r0")


def test_what_the_rounding_absorbed_is_no_fault(
    model: Model, clipped: Path, feeds: Any, tmp_path: Path
) -> None:
    """By ONNX Runtime's quantizer, a ReLU and a Clip: their graphs are sound."""
    for name, path in (("relu", model.path), ("clip", clipped)):
        (tmp_path / name).mkdir()
        made = int8_static.apply(graph.describe(path), feeds, U8S8, STATIC, tmp_path / name)
        left = {n.op_type for n in onnx.load(made.model.path).graph.node}
        assert not left & {"Relu", "Clip"}
        found = explain(made.model.path, path, feeds)
        assert {s.kind for s in found.suspects} <= SOUND
        one, two = View(onnx.load(path)), View(onnx.load(made.model.path))
        told = {(p.kind, p.value) for p in parts(one, restored(one, two))}
        assert {("activation", "r0"), ("weight", "p0")} <= told
        assert {kind for kind, _ in told} == {"activation", "weight"}


def test_a_clip_whose_rounding_is_stale_is_not_put_back_beside_another_part(
    clipped: Path, feeds: Any, tmp_path: Path
) -> None:
    """The range ends at three times the Clip's: what was absorbed is missing, and only r0 is told for it."""
    made = int8_static.apply(graph.describe(clipped), feeds, U8S8, STATIC, tmp_path)
    found = explain(changed(made.model.path, tmp_path, scaled("r0_scale", 3)), clipped, feeds)
    assert found.suspects[0].value == "r0"
    assert found.suspects[0].recovered > 0.8
    assert all(s.recovered < 0.5 for s in found.suspects if s.value != "r0")
