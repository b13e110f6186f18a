"""Scale migration and equalisation change no output, make channels alike, and keep off what others read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import graph, testing
from accel.calibration.collect import collect
from accel.errors import CandidateBroken
from accel.qdq import equalize
from accel.qdq.sites import sites
from accel.recipes import _smooth, int8_mixed
from accel.values import QuantStyle

F = TensorProto.FLOAT
DRAW = np.random.default_rng(6)
U8S8 = QuantStyle(True, False, True, False, True)


def run(proto: Any, feed: Any) -> Any:
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)[0]


def seen(proto: Any, feeds: Any, folder: Path) -> Any:
    onnx.save(proto, folder / "seen.onnx")
    return collect(folder / "seen.onnx", feeds).sketches


def model(nodes: Any, weights: Any, shape: Any, out: Any) -> Any:
    body = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", F, shape)],
        [helper.make_tensor_value_info("y", F, out)],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def depthwise() -> Any:
    """conv -> relu -> depthwise -> relu -> pointwise, rows of the weights of very different sizes."""
    rows = np.geomspace(0.01, 10, 8)[:, None, None, None]
    weights = {
        "k0": DRAW.normal(size=(8, 3, 3, 3)) * rows, "b0": DRAW.normal(size=8),
        "k1": DRAW.normal(size=(8, 1, 3, 3)) * rows[::-1], "b1": DRAW.normal(size=8),
        "k2": DRAW.normal(size=(4, 8, 1, 1)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "k0", "b0"], ["c0"], "conv0", pads=[1] * 4),
        helper.make_node("Relu", ["c0"], ["r0"], "relu0"),
        helper.make_node("Conv", ["r0", "k1", "b1"], ["c1"], "conv1", pads=[1] * 4, group=8),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "k2"], ["y"], "conv2"),
    ]
    return model(nodes, weights, ["n", 3, 8, 8], ["n", 4, 8, 8])


@pytest.fixture
def images() -> Any:
    return [{"x": DRAW.normal(size=(2, 3, 8, 8)).astype(np.float32)} for _ in range(4)]


def test_equalisation_changes_no_output(depthwise: Any, images: Any) -> None:
    """To float32's own rounding, through a depthwise layer too."""
    made, scales = equalize.equalized(depthwise)
    assert set(scales) == {"c0", "r0", "c1", "r1"}
    for feed in images:
        assert np.allclose(run(made, feed), run(depthwise, feed), rtol=1e-4, atol=1e-4)


def test_equalisation_makes_rows_alike(depthwise: Any) -> None:
    """Each channel is as large in the weight before it as in the one behind."""
    made, _ = equalize.equalized(depthwise)
    found = {t.name: np.abs(numpy_helper.to_array(t)) for t in made.graph.initializer}
    before, after = found["k1"].max(axis=(1, 2, 3)), found["k2"].max(axis=(0, 2, 3))
    assert np.allclose(before, after, rtol=0.02)


def test_what_is_known_is_divided_alike(depthwise: Any, images: Any, tmp_path: Path) -> None:
    """Extremes and means of a value are those that a fresh calibration of the new graph finds."""
    known = seen(depthwise, images, tmp_path)
    made, scales = equalize.equalized(depthwise)
    fresh = seen(made, images, tmp_path)
    told = known["r0"].divided(scales["r0"])
    assert told.high == pytest.approx(fresh["r0"].high, rel=1e-4)
    assert np.allclose(told.channel_sum, fresh["r0"].channel_sum, rtol=1e-3)


def test_equalisation_loses_less_in_int8(depthwise: Any, images: Any, tmp_path: Path) -> None:
    """What it is for: one scale for all of a value's channels is enough."""
    onnx.save(depthwise, tmp_path / "m.onnx")
    described, errors = graph.describe(tmp_path / "m.onnx"), []
    for options in ({"ranges": "minmax"}, {"ranges": "minmax", "equalize": True}):
        folder = tmp_path / str(len(errors))
        folder.mkdir()
        made = onnx.load(int8_mixed.apply(described, images, U8S8, options, folder).model.path)
        errors.append(sum(np.sum((run(made, f) - run(depthwise, f)) ** 2) for f in images))
    assert errors[1] < 0.7 * errors[0]


def test_a_dead_channel_with_a_bias_is_left_as_it_is(
    depthwise: Any, images: Any, tmp_path: Path
) -> None:
    """Its bias would be divided by next to nothing, and the range of every other channel with it."""
    for tensor in depthwise.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name == "k0":
            array[3] *= 1e-18
        if tensor.name == "b0":
            array[3] = 0.2
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    made, scales = equalize.equalized(depthwise)
    assert scales["c0"][3] == 1 != scales["c0"][2]
    known, fresh = (seen(p, images, tmp_path)["r0"].high for p in (depthwise, made))
    assert fresh < 2 * known


def branch(read: str) -> Any:
    """An If whose branches read a value, or a weight, of the main graph."""
    bodies = {
        name: helper.make_graph(
            [helper.make_node(kind, [read], [f"{name}_out"], keepdims=0)], name, [],
            [helper.make_tensor_value_info(f"{name}_out", F, [])],
        )
        for name, kind in (("then_branch", "ReduceMax"), ("else_branch", "ReduceMin"))
    }  # fmt: skip
    return helper.make_node("If", ["yes"], ["z"], "if", **bodies)


@pytest.mark.parametrize("read", ["r0", "k1"])
def test_what_a_branch_reads_is_left_alone(depthwise: Any, read: str) -> None:
    """A subgraph sees values and weights of the graph around it."""
    depthwise.graph.node.insert(2, branch(read))
    depthwise.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "yes"))
    depthwise.graph.output.append(helper.make_tensor_value_info("z", F, []))
    _, scales = equalize.equalized(depthwise)
    assert "r0" not in scales


def test_two_layers_of_a_network_without_convolutions_have_no_pair(tmp_path: Path) -> None:
    """The recipe says so, and makes nothing."""
    made = testing.mlp(tmp_path / "m.onnx")
    feeds = [{"x": DRAW.normal(size=(4, 8)).astype(np.float32)}]
    with pytest.raises(CandidateBroken, match="no two convolutions"):
        int8_mixed.apply(made, feeds, U8S8, {"ranges": "mse", "equalize": True}, tmp_path)


@pytest.fixture
def shared() -> Any:
    """sigmoid -> two products of one value, a few of whose channels are large."""
    size = np.where(np.arange(8) == 5, 40.0, 1.0)
    weights = {"s": size, "a": DRAW.normal(size=(8, 6)), "b": DRAW.normal(size=(8, 6))}
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["h"], "sigmoid"),
        helper.make_node("Mul", ["h", "s"], ["v"], "scale"),
        helper.make_node("MatMul", ["v", "a"], ["p"], "one"),
        helper.make_node("MatMul", ["v", "b"], ["q"], "two"),
        helper.make_node("Add", ["p", "q"], ["y"], "add"),
    ]
    return model(nodes, weights, ["n", 8], ["n", 6])


@pytest.fixture
def rows() -> Any:
    return [{"x": DRAW.normal(size=(16, 8)).astype(np.float32)} for _ in range(4)]


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
def test_migration_changes_no_output(shared: Any, rows: Any, tmp_path: Path, alpha: float) -> None:
    """Both readers share one scale, and one Mul."""
    made, known = _smooth.smoothed(shared, sites(shared), seen(shared, rows, tmp_path), alpha)
    assert set(known) == {"v__smooth"}
    assert sum(n.op_type == "Mul" for n in made.graph.node) == 2
    assert np.allclose(run(made, rows[0]), run(shared, rows[0]), rtol=1e-4, atol=1e-4)


def test_migration_makes_channels_alike(shared: Any, rows: Any, tmp_path: Path) -> None:
    """The large channel is no longer forty times the others."""
    known = seen(shared, rows, tmp_path)
    _, moved = _smooth.smoothed(shared, sites(shared), known, 0.5)
    size = np.maximum(-moved["v__smooth"].channel_low, moved["v__smooth"].channel_high)
    assert size.max() < 12 * np.median(size)
    assert known["v"].channel_high is not None
    assert known["v"].channel_high.max() > 30 * np.median(known["v"].channel_high)


def test_what_stays_in_float32_beside_a_product_does_not_hinder_it(
    rows: Any, tmp_path: Path
) -> None:
    """In a transformer an addition reads a norm too, as it is: the norm's products are moved all the same."""
    weights = {"gain": np.ones(8), "a": DRAW.normal(size=(8, 8))}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain"], ["v"], "norm"),
        helper.make_node("MatMul", ["v", "a"], ["p"], "product"),
        helper.make_node("Softmax", ["p"], ["s"], "softmax"),
        helper.make_node("Add", ["v", "s"], ["y"], "residual"),
    ]
    onnx.save(model(nodes, weights, ["n", 8], ["n", 8]), tmp_path / "m.onnx")
    options = {"ranges": "minmax", "migrate": 0.8}
    made = int8_mixed.apply(graph.describe(tmp_path / "m.onnx"), rows, U8S8, options, tmp_path)
    read = {n.op_type: list(n.input) for n in onnx.load(made.model.path).graph.node}
    assert read["QuantizeLinear"][0] == "v__smooth"
    assert read["Add"][0] == "v"


def test_a_migrated_range_holds_zero(shared: Any, rows: Any, tmp_path: Path) -> None:
    """A sigmoid is never 0: its pair must reach it all the same, or the top is cut off."""
    onnx.save(shared, tmp_path / "m.onnx")
    options = {"ranges": "minmax", "migrate": 0.5, "correct": True}
    made = int8_mixed.apply(graph.describe(tmp_path / "m.onnx"), rows, U8S8, options, tmp_path)
    want, got = run(shared, rows[0]), run(onnx.load(made.model.path), rows[0])
    assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)


def test_a_weight_that_a_branch_reads_is_not_scaled(shared: Any, rows: Any, tmp_path: Path) -> None:
    """Nor is what else reads it."""
    shared.graph.node.append(branch("a"))
    shared.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "yes"))
    shared.graph.output.append(helper.make_tensor_value_info("z", F, []))
    _, moved = _smooth.smoothed(shared, sites(shared), seen(shared, rows, tmp_path), 0.5)
    assert not moved


def test_attention_is_int8_where_that_is_asked_for(tmp_path: Path) -> None:
    """Its products of two activations, with the matrices; never the additions that lead to norms."""
    weights = {"gain": np.ones(8), "a": DRAW.normal(size=(8, 8))}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain"], ["v"], "norm"),
        helper.make_node("MatMul", ["v", "a"], ["q"], "query"),
        helper.make_node("Transpose", ["v"], ["k"], "key", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["p"], "scores"),
        helper.make_node("Softmax", ["p"], ["s"], "softmax"),
        helper.make_node("MatMul", ["s", "v"], ["c"], "context"),
        helper.make_node("Add", ["c", "v"], ["y"], "residual"),
    ]
    onnx.save(model(nodes, weights, ["n", 5, 8], ["n", 5, 8]), tmp_path / "m.onnx")
    given = [{"x": DRAW.normal(size=(2, 5, 8)).astype(np.float32)} for _ in range(3)]
    described = graph.describe(tmp_path / "m.onnx")
    for attention, count in ((False, 1), (True, 3)):
        options = {"ranges": "minmax", "attention": attention}
        made = int8_mixed.apply(described, given, U8S8, options, tmp_path)
        assert made.facts["int8"] == count
        read = {n.name: list(n.input) for n in onnx.load(made.model.path).graph.node}
        assert read["residual"] == ["c", "v"]


def test_attention_is_no_option_where_there_is_none(tmp_path: Path) -> None:
    """It would be the same candidate twice."""
    made = testing.mlp(tmp_path / "m.onnx")
    given = [{"x": DRAW.normal(size=(4, 8)).astype(np.float32)}]
    with pytest.raises(CandidateBroken, match="no attention"):
        int8_mixed.apply(made, given, U8S8, {"ranges": "mse", "attention": True}, tmp_path)


@pytest.mark.parametrize("weight", ["k0", "b0", "k1"])
def test_a_convolution_whose_weight_is_an_output_is_left_alone(depthwise: Any, weight: str) -> None:
    """The caller gets it as it was."""
    shape = next(t.dims for t in depthwise.graph.initializer if t.name == weight)
    depthwise.graph.output.append(helper.make_tensor_value_info(weight, F, shape))
    _, scales = equalize.equalized(depthwise)
    assert "r0" not in scales


def test_a_weight_that_is_an_output_is_not_scaled(shared: Any, rows: Any, tmp_path: Path) -> None:
    """Its product is as good as before; the caller gets the weight as it was."""
    shared.graph.output.append(helper.make_tensor_value_info("a", F, [8, 6]))
    _, moved = _smooth.smoothed(shared, sites(shared), seen(shared, rows, tmp_path), 0.5)
    assert not moved
