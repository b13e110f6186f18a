"""Whatever is planted into a converted graph is named first, with its kind; what is taken back is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import graph, testing
from accel.errors import CandidateBroken, UsageError
from accel.explaining import running
from accel.explaining.parts import parts
from accel.explaining.revert import reverted
from accel.explaining.view import View
from accel.questions.explain import explain
from accel.recipes import fp16, int8_mixed
from accel.values import Model
from tests.explaining.planted import U8S8, changed, scaled

DRAW = np.random.default_rng(3)


def other_axis(proto: Any) -> None:
    """k1's scales as they would be along its input channels, repeated to fit."""
    tensor = next(t for t in proto.graph.initializer if t.name.endswith("k1__scale"))
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[::-1]), tensor.name))


@pytest.mark.parametrize(
    ("change", "value", "kind"),
    [
        (scaled("r0__scale", 1 / 6), "r0", "clipped range"),
        (scaled("x__scale", 1 / 8), "x", "clipped range"),
        (scaled("r1__scale", 40), "r1", "wrong or stale scale"),
        (scaled("k1__scale", 1.7), "p1", "wrong or stale scale"),
        (scaled("w__scale", 0.5), "y", "wrong or stale scale"),
        (scaled("c0__scale", 8), "p0", ""),
        (other_axis, "p1", "wrong or stale scale"),
    ],
    ids=["clipped", "clipped input", "stale", "weight", "last weight", "bias", "other channels'"],
)
def test_a_planted_fault_is_named_first(
    int8: Path, model: Model, feeds: Any, tmp_path: Path, change: Any, value: str, kind: str
) -> None:
    """By what taking it back mends; the kind from its numbers."""
    found = explain(changed(int8, tmp_path, change), model.path, feeds)
    first = found.suspects[0]
    assert first.value == value
    assert first.recovered > 0.5
    assert first.kind == kind or not kind
    assert first.mend or not kind


def test_a_weight_is_told_behind_a_norm_that_was_folded(
    model: Model, feeds: Any, tmp_path: Path
) -> None:
    """The reference has the convolution and its norm apart, the candidate one weight for both."""
    proto = onnx.load(model.path)
    draw, norm = np.random.default_rng(1), ["n_gain", "n_offset", "n_mean", "n_variance"]
    channels = next(t.dims[0] for t in proto.graph.initializer if t.name == "k1")
    proto.graph.initializer.extend(
        numpy_helper.from_array(draw.uniform(1, 2, channels).astype(np.float32), n) for n in norm
    )
    (at,) = (i for i, n in enumerate(proto.graph.node) if "k1" in n.input)
    value = proto.graph.node[at].output[0]
    proto.graph.node[at].output[0] = "before"
    node = helper.make_node("BatchNormalization", ["before", *norm], [value])
    proto.graph.node.insert(at + 1, node)
    onnx.save(proto, tmp_path / "m.onnx")
    (tmp_path / "q").mkdir()
    described = graph.describe(tmp_path / "m.onnx")
    made = int8_mixed.apply(described, feeds, U8S8, {"ranges": "minmax"}, tmp_path / "q")
    assert made.facts["folded"] == 1
    planted = changed(made.model.path, tmp_path, scaled("before__folded_weight__scale", 3))
    first = explain(planted, tmp_path / "m.onnx", feeds).suspects[0]
    assert (first.value, first.kind) == (value, "wrong or stale scale")
    assert first.part.startswith("weight (input 1)")
    assert first.recovered > 0.9


def test_sound_int8_has_no_kind_of_fault(int8: Path, model: Model, feeds: Any) -> None:
    """Rounding alone: shares of an error that is spread, none of them over nine tenths."""
    found = explain(int8, model.path, feeds)
    assert found.sqnr_db > 25
    assert all(s.recovered < 0.9 for s in found.suspects)
    assert {s.kind for s in found.suspects} <= {"", "int8 pair-sum saturation"}


def test_an_outlier_channel_is_told(model: Model, feeds: Any, tmp_path: Path) -> None:
    """One channel of r0 is 500 times larger, in a network of the same function."""
    proto = onnx.load(model.path)
    for name, index, factor in (
        ("k0", (3,), 500.0),
        ("c0", (3,), 500.0),
        ("k1", (slice(None), 3), 1 / 500),
    ):
        tensor = next(t for t in proto.graph.initializer if t.name == name)
        values = numpy_helper.to_array(tensor).copy()
        values[index] *= factor
        tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(proto, tmp_path / "m.onnx")
    made = int8_mixed.apply(graph.describe(tmp_path / "m.onnx"), feeds, U8S8, {"ranges": "minmax"}, tmp_path / "q") if (tmp_path / "q").mkdir() is None else None  # fmt: skip
    assert made is not None
    found = explain(made.model.path, tmp_path / "m.onnx", feeds)
    assert (found.suspects[0].value, found.suspects[0].kind) == ("r0", "outlier channel")
    assert " 3 " in found.suspects[0].message


def test_a_bad_calibration_sample_is_told_from_a_stale_scale(
    int8: Path, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """Where the calibration data is given, and one feed of it is a hundred times too large."""
    spoilt = [*feeds, {"x": 100 * feeds[0]["x"]}]
    wide = changed(int8, tmp_path, scaled("x__scale", 100))
    assert explain(wide, model.path, feeds).suspects[0].kind == "wrong or stale scale"
    found = explain(wide, model.path, feeds, spoilt).suspects[0]
    assert (found.value, found.kind) == ("x", "bad calibration sample")


def test_overflow_of_float16_is_told(model: Model, feeds: Any, tmp_path: Path) -> None:
    """p0 is scaled beyond 65504 and back: in float16 it is infinite."""
    proto = onnx.load(model.path)
    for name, factor in (("k0", 3e5), ("c0", 3e5), ("k1", 1 / 3e5)):
        scaled(name, factor)(proto)
    reference = tmp_path / "m.onnx"
    onnx.save(proto, reference)
    nodes = list(proto.graph.node)
    casts = [
        helper.make_node("Cast", ["p0"], ["p0_half"], "down", to=TensorProto.FLOAT16),
        helper.make_node("Relu", ["p0_half"], ["r0_half"], "relu"),
        helper.make_node("Cast", ["r0_half"], ["r0"], "up", to=TensorProto.FLOAT),
    ]
    at = next(i for i, n in enumerate(nodes) if "r0" in n.output)
    proto.graph.ClearField("node")
    proto.graph.node.extend([*nodes[:at], *casts, *nodes[at + 1 :]])
    proto.graph.ClearField("value_info")
    onnx.save(proto, tmp_path / "half.onnx")
    found = explain(tmp_path / "half.onnx", reference, feeds)
    assert (found.suspects[0].value, found.suspects[0].kind) == ("r0", "fp16 overflow")


def test_a_conversion_to_float16_is_explained(model: Model, feeds: Any, tmp_path: Path) -> None:
    """By accel's own recipe: nodes in 16 bits, each with its share."""
    made = fp16.apply(model, feeds, U8S8, {}, tmp_path)
    found = explain(made.model.path, model.path, feeds)
    assert found.sqnr_db > 50
    assert {s.kind for s in found.suspects} == {"float16 rounding"}


def test_float16_is_taken_back_in_an_older_opset_too(
    model: Model, feeds: Any, tmp_path: Path
) -> None:
    """Opset 13 has no CastLike: each part is told with its share, none as one that stays."""
    proto = onnx.load(model.path)
    proto.opset_import[0].version = 13
    onnx.save(proto, tmp_path / "old.onnx")
    made = fp16.apply(graph.describe(tmp_path / "old.onnx"), feeds, U8S8, {}, tmp_path)
    found = explain(made.model.path, tmp_path / "old.onnx", feeds)
    assert found.untold == ()
    assert {s.kind for s in found.suspects} == {"float16 rounding"}


@pytest.mark.parametrize("way", ["int8", "fp16"])
def test_all_parts_taken_back_are_the_reference(
    way: str, int8: Path, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """Nothing that the conversion did is left over."""
    path = int8 if way == "int8" else fp16.apply(model, feeds, U8S8, {}, tmp_path).model.path
    one, two = View(onnx.load(model.path)), View(onnx.load(path))
    made = reverted(one, two, parts(one, two))
    onnx.checker.check_model(made, full_check=True)
    want = running.outputs(one.proto, feeds)
    left = running.error(running.outputs(made, feeds), want)
    assert left < (1e-10 if way == "int8" else 1e-6)  # values keep their 16-bit form between nodes


def test_a_changed_attribute_is_told(tmp_path: Path) -> None:
    """A pass that turned a Softmax."""
    model = testing.attention(tmp_path / "m.onnx")
    feeds = [testing.tokens(batch=2, length=n).inputs for n in (5, 7)]

    def turn(proto: Any) -> None:
        node = next(n for n in proto.graph.node if n.op_type == "Softmax")
        node.attribute[0].i = 1

    found = explain(changed(model.path, tmp_path, turn), model.path, feeds)
    assert (found.suspects[0].value, found.suspects[0].kind) == ("weights", "swapped axis")


@pytest.mark.parametrize("outputs", ["float[n, 4] y", "seq(float[n, 2]) halves, float[n, 4] y"])
def test_sequences_are_passed_over(outputs: str, tmp_path: Path) -> None:
    """A list of arrays, inside or as an output, has no error of its own; what is made of it has."""
    text = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 4] x) => ({outputs}) <int64 half = {{2}}, float[4, 4] w = {{{",".join(map(str, range(16)))}}}>
    {{
      p = MatMul(x, w)  halves = SplitToSequence <axis = 1> (p, half)
      y = ConcatFromSequence <axis = 1> (halves)
    }}
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    feeds = [{"x": DRAW.normal(size=(3, 4)).astype(np.float32)}]
    wrong = changed(tmp_path / "m.onnx", tmp_path, scaled("w", 1.5))
    found = explain(wrong, tmp_path / "m.onnx", feeds)
    assert found.suspects[0].value == "p"
    assert [g.value for g in found.growth] == ["p"]


def test_sequences_alone_are_refused(tmp_path: Path) -> None:
    """There is no array to compare."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 2] x) => (seq(float[n, 2]) y) <float[2, 2] w = {1,2,3,4}>
    { p = MatMul(x, w)  y = SequenceConstruct(p) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    wrong = changed(tmp_path / "m.onnx", tmp_path, scaled("w", 1.5))
    with pytest.raises(UsageError, match="No output is an array of floats"):
        explain(wrong, tmp_path / "m.onnx", [{"x": np.ones((3, 2), np.float32)}])


def test_scales_that_do_not_fit_are_told_by_the_runtime(
    int8: Path, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """k1's 32 scales without the axis that they lie along: the default one has 16 channels."""

    def no_axis(proto: Any) -> None:
        node = next(n for n in proto.graph.node if any("k1" in name for name in n.input))
        node.ClearField("attribute")

    with pytest.raises(CandidateBroken, match="ONNX Runtime cannot"):
        explain(changed(int8, tmp_path, no_axis), model.path, feeds)


def test_what_cannot_be_compared_is_refused(
    int8: Path, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """The same graph, no feeds, another model."""
    with pytest.raises(CandidateBroken, match="no part that differs"):
        explain(model.path, model.path, feeds)
    with pytest.raises(UsageError, match="1 feed is the least"):
        explain(int8, model.path, [])
    other = testing.attention(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="is not of"):
        explain(other.path, model.path, feeds)
