"""Operators of other domains that are called like ONNX's own: onnx's checker lets them have no input, and
no output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from accel import catalog, legality, roofline, shapes, target
from accel.calibration import collect
from accel.explaining import parts, revert
from accel.explaining.view import View
from accel.qdq import sites
from accel.questions.inspect import inspect
from tests.hostile.case import X, Y
from tests.legality.building import F, model, node, weight

NAMES = (
    "Identity", "Constant", "Reshape", "Transpose", "Squeeze", "Cast", "Slice", "Add", "Conv", "MatMul",
    "Relu", "Clip", "Gather", "Shape", "QuantizeLinear", "DequantizeLinear", "Loop", "If",
)  # fmt: skip
PRIVATE = ("QuantizeLinear", "DequantizeLinear", "Pad")


def strangers(domain: str, names: Sequence[str]) -> Any:
    """Each of the names twice, nameless: without inputs, and without outputs; each read by ONNX's own."""
    nodes = [node("Relu", "x", "y")]
    value = helper.make_attribute("value_ints", "abc")
    for name in names:
        nodes.append(helper.make_node(name, [], [f"{name}_made"], domain=domain))
        nodes[-1].attribute.append(value)
        nodes.append(helper.make_node(name, ["x"], [], domain=domain))
        nodes.append(helper.make_node(name, [f"{name}_made"], [f"{name}_again"], domain=domain))
        nodes.append(node("Add", f"{name}_again x", f"{name}_sum"))
        nodes.append(node("MatMul", f"x {name}_again", f"{name}_product"))
        nodes.append(node("QuantizeLinear", f"{name}_sum scale zero", f"{name}_whole"))
        nodes.append(node("DequantizeLinear", f"{name}_whole scale zero", f"{name}_back"))
        nodes.append(node("Slice", f"x start {name}_made axis", f"{name}_cut"))
    constants = [weight("scale", 0.1), weight("zero", 0, "int8")]
    constants += [weight("start", [0], "int64"), weight("axis", [0], "int64")]
    return model(nodes, [X], [Y], constants, domains=[domain])


CASES = [("own", NAMES), ("com.microsoft", PRIVATE)]


@pytest.fixture(params=CASES, ids=lambda case: case[0])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file of such a graph."""
    onnx.save(strangers(*request.param), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_they_are_inspected(path: Path) -> None:
    """And told of where they are no runtime's."""
    found = inspect(path)
    assert found.operators["Add"] > 1


@pytest.mark.parametrize("name", catalog.names("profiles"))
def test_rules_pass_them_over(path: Path, name: str) -> None:
    """On every target; what can be mended is, without them."""
    device = target.load(name)
    legality.check(path, device)
    legality.fix(path, device, path.with_name("out.onnx"))


def test_they_have_a_roofline(path: Path) -> None:
    """Their own cost is unknown, as is that of each operator of a stranger."""
    opened = roofline.opened(path)
    assert roofline.work(opened, {}).nodes
    assert roofline.peak(opened, {}).total_bytes > 0


def test_an_embedding_without_its_tables_has_a_roofline(tmp_path: Path) -> None:
    """ONNX Runtime's own operators are not looked at by onnx's checker."""
    lookup = node("EmbedLayerNormalization", "i i", "a b", domain="com.microsoft")
    ids = ("i", onnx.TensorProto.INT32, [2, 4])
    made = model([lookup, node("Relu", "x", "y")], [X, ids], [Y], domains=["com.microsoft"])
    onnx.save(made, tmp_path / "m.onnx")
    assert len(roofline.work(tmp_path / "m.onnx", {}).nodes) == 2


def test_they_are_passed_over_by_who_explains_and_calibrates(path: Path) -> None:
    """Their Q and DQ round nothing that is known."""
    view = View(onnx.load(path))
    assert revert.restored(view, view) is view
    assert parts.parts(view, view) is not None
    assert view.constants.keys() >= {"scale", "zero"}
    assert collect.tapped(view.proto)
    assert sites.sites(view.proto) is not None


def test_an_lstm_of_weights_alone_may_lack_its_first_output(tmp_path: Path) -> None:
    """Memory is told of what it gives."""
    draw = np.random.default_rng(0).normal
    nodes = [node("LSTM", "s w r", "_ h"), node("Add", "x h", "y")]
    nodes[0].output[0] = ""
    shapes_of = {"s": (3, 1, 2), "w": (1, 8, 2), "r": (1, 8, 2)}
    nodes[0].attribute.append(helper.make_attribute("hidden_size", 2))
    weights = [weight(name, draw(size=size)) for name, size in shapes_of.items()]
    made = model(nodes, [("x", F, [1, 1, 2])], [("y", F, [1, 1, 2])], weights)
    onnx.save(made, tmp_path / "m.onnx")
    assert roofline.peak(tmp_path / "m.onnx", {}).weights_bytes > 0


def test_a_slice_of_a_scalar_and_of_texts(tmp_path: Path) -> None:
    """No runtime runs them, and nothing but their sizes is in doubt."""
    nodes = [node("Slice", "c at end at", "a"), node("Slice", "x text end text", "b")]
    weights = [weight("c", 1.0), weight("at", [0], "int64"), weight("end", [1], "int64")]
    weights += [helper.make_tensor("text", onnx.TensorProto.STRING, [1], [b"0"])]
    made = model([*nodes, node("Relu", "x", "y")], [X, ("end_", F, [1])], [Y], weights)
    assert shapes.infer(made) is not None
    onnx.save(made, tmp_path / "m.onnx")
    assert inspect(tmp_path / "m.onnx").operators["Slice"] == 2


def test_a_loop_that_counts_in_texts(tmp_path: Path) -> None:
    """A number was looked for."""
    from tests.hostile.structures import endless

    made = endless(3)
    made.graph.initializer[1].CopyFrom(
        helper.make_tensor("n", onnx.TensorProto.STRING, [], [b"three"])
    )
    onnx.save(made, tmp_path / "m.onnx")
    assert not [line for line in inspect(tmp_path / "m.onnx").remarks if "never ends" in line]


def test_rules_do_not_go_round_in_circles(tmp_path: Path) -> None:
    """They see a graph before anyone has looked at its order."""
    nodes = [
        node("Relu", "b", "a"),
        node("Relu", "a", "b"),
        node("MatMul", "x b", "p"),
        node("Add", "p b", "s"),
        node("QuantizeLinear", "s scale", "q"),
        node("DequantizeLinear", "q scale", "y"),
        node("Identity", "n", "m"),
        node("Identity", "m", "n"),
        node("Slice", "x start n axis", "cut"),
    ]
    constants = [weight("scale", 0.1), weight("start", [0], "int64"), weight("axis", [0], "int64")]
    onnx.save(model(nodes, [X], [Y], constants), tmp_path / "m.onnx")
    found = legality.check(tmp_path / "m.onnx", target.load("jetson-agx-orin"))
    assert any("in a circle" in finding.message for finding in found)


def test_a_dequantized_value_may_be_turned_a_thousand_times(tmp_path: Path) -> None:
    """Who reads it in the end is found without recursion, by the roofline and by the rules."""
    nodes = [node("DequantizeLinear", "w scale", "v0")]
    nodes += [node("Transpose", f"v{i}", f"v{i + 1}") for i in range(2000)]
    nodes += [node("Add", "x x", "s0"), node("MatMul", "s2000 v2000", "p")]
    nodes[-1:-1] = [node("Transpose", f"s{i}", f"s{i + 1}") for i in range(2000)]
    nodes += [node("QuantizeLinear", "p scale", "q"), node("DequantizeLinear", "q scale", "y")]
    constants = [weight("scale", 0.1), weight("w", np.ones((4, 4)), "int8")]
    onnx.save(model(nodes, [X], [Y], constants), tmp_path / "m.onnx")
    assert roofline.work(tmp_path / "m.onnx", {}).nodes
    assert legality.check(tmp_path / "m.onnx", target.load("jetson-agx-orin")) is not None
