"""accel inspect --lint: each pattern is found in a planted graph, mended, and outputs stay what they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from accel import legality, target, testing
from accel.cli import cli
from accel.recipes import int8_mixed
from accel.values import QuantStyle

DRAW = np.random.default_rng(8)
FEED = {"x": DRAW.normal(size=(4, 3, 8, 8)).astype(np.float32)}
STYLE = QuantStyle(True, False, True, False, True)
CPU = target.load("cpu-x86-avx512-vnni")
GPU = target.load("l4")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """accel's own int8: uint8 activations, int8 weights per channel."""
    folder = tmp_path_factory.mktemp("sound")
    model = testing.convnet(folder / "m.onnx", channels=16)
    return onnx.load(
        int8_mixed.apply(model, [FEED], STYLE, {"ranges": "minmax"}, folder).model.path
    )


def copy(proto: Any) -> Any:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made


def array(proto: Any, name: str) -> Any:
    return numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == name))


def put(proto: Any, name: str, values: Any) -> None:
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), name))
            return
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def signed_activations(proto: Any) -> None:
    for tensor in list(proto.graph.initializer):
        if tensor.name.endswith("__zero") and tensor.data_type == TensorProto.UINT8:
            put(proto, tensor.name, (array(proto, tensor.name).astype(int) - 128).astype(np.int8))


def unsigned_weights(proto: Any) -> None:
    for tensor in list(proto.graph.initializer):
        if tensor.name.endswith("__int"):
            zero = tensor.name.removesuffix("__int") + "__zero"
            if zero in {t.name for t in proto.graph.initializer}:
                put(
                    proto,
                    tensor.name,
                    (array(proto, tensor.name).astype(int) + 128).astype(np.uint8),
                )
                put(proto, zero, (array(proto, zero).astype(int) + 128).astype(np.uint8))


def float_weight(proto: Any) -> None:
    """k1 as QuantizeLinear of a float initializer, as training with fake quantization leaves it."""
    node = next(n for n in proto.graph.node if n.input[0].endswith("k1__int"))
    scale, zero = array(proto, node.input[1]), array(proto, node.input[2])
    shape = (-1, 1, 1, 1)
    back = (array(proto, node.input[0]).astype(np.float32) - zero.reshape(shape)) * scale.reshape(
        shape
    )
    put(proto, "k1_float", back.astype(np.float32))
    at = list(proto.graph.node).index(node)
    made = helper.make_node(
        "QuantizeLinear", ["k1_float", *node.input[1:]], ["k1_again"], "q", axis=0
    )
    node.input[0] = "k1_again"
    proto.graph.node.insert(at, made)


def repeated_pair(proto: Any) -> None:
    """r0 is rounded, read back, and rounded again."""
    at, back = next((i, n) for i, n in enumerate(proto.graph.node) if n.output[0] == "r0__float")
    for node in proto.graph.node:
        node.input[:] = ["r0__twice" if n == "r0__float" else n for n in node.input]
    numbers = list(back.input[1:])
    for i, one in enumerate(
        (
            helper.make_node("QuantizeLinear", ["r0__float", *numbers], ["r0__q2"], "q2"),
            helper.make_node("DequantizeLinear", ["r0__q2", *numbers], ["r0__twice"], "dq2"),
        )
    ):
        proto.graph.node.insert(at + 1 + i, one)


def other_axis(proto: Any) -> None:
    """k1's scales along its input channels."""
    node = next(n for n in proto.graph.node if n.input[0].endswith("k1__int"))
    scale, zero = array(proto, node.input[1]), array(proto, node.input[2])
    shape = (-1, 1, 1, 1)
    back = (array(proto, node.input[0]).astype(np.float32) - zero.reshape(shape)) * scale.reshape(
        shape
    )
    step = np.abs(back).max(axis=(0, 2, 3)) / 127
    whole = np.round(back / step.reshape(1, -1, 1, 1)).astype(np.int8)
    for name, values in zip(
        node.input, (whole, step.astype(np.float32), np.zeros(step.size, np.int8)), strict=True
    ):
        put(proto, name, values)
    node.attribute[0].i = 1


PLANTED: dict[str, tuple[Callable[[Any], None], str, str, float]] = {
    "signed activations": (signed_activations, "qdq_signs", "int8 activations", 0.0),
    "unsigned weights": (unsigned_weights, "qdq_signs", "uint8 weights", 0.0),
    "float weight": (float_weight, "qdq_weights", "quantized anew", 0.0),
    "repeated pair": (repeated_pair, "qdq_weights", "rounded twice", 0.0),
    "other axis": (other_axis, "qdq_weights", "another axis", 0.02),
}


def run(proto: Any) -> Any:
    """Nothing fused: what the nodes say."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, FEED)[0]


def test_sound_int8_has_nothing_against_it(sound: Any, tmp_path: Path) -> None:
    """What accel writes for a processor passes its own lint."""
    onnx.save(sound, tmp_path / "m.onnx")
    assert not legality.check(tmp_path / "m.onnx", CPU, only="qdq")


@pytest.mark.parametrize("name", PLANTED)
def test_a_pattern_is_found_and_mended(sound: Any, tmp_path: Path, name: str) -> None:
    """With its source; the mended graph is valid, has it no more, and answers alike."""
    plant, rule, said, tolerance = PLANTED[name]
    proto = copy(sound)
    plant(proto)
    onnx.save(proto, tmp_path / "m.onnx")
    found = legality.check(tmp_path / "m.onnx", CPU, only="qdq")
    assert rule in {f.rule for f in found}
    assert any(said in f.message for f in found)
    assert all(f.source for f in found)
    assert legality.fix(tmp_path / "m.onnx", CPU, tmp_path / "out.onnx", only="qdq")
    made = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(made, full_check=True)
    assert not legality.check(tmp_path / "out.onnx", CPU, only="qdq")
    want, got = run(proto), run(made)
    assert np.linalg.norm(got - want) <= tolerance * np.linalg.norm(want)


def test_an_int8_weight_is_no_activation(sound: Any, tmp_path: Path) -> None:
    """One that is quantized at each start has the right type: only that it is not folded is told."""
    proto = copy(sound)
    float_weight(proto)
    onnx.save(proto, tmp_path / "m.onnx")
    assert {f.rule for f in legality.check(tmp_path / "m.onnx", CPU, only="qdq")} == {"qdq_weights"}


def test_zero_points_become_symmetric_for_tensorrt(sound: Any, tmp_path: Path) -> None:
    """Its only scheme; a step is up to twice as wide, and that is all that changes."""
    onnx.save(sound, tmp_path / "m.onnx")
    found = legality.check(tmp_path / "m.onnx", GPU, only="qdq")
    assert any("asymmetric" in f.message or "UINT8" in f.message for f in found)
    assert legality.fix(tmp_path / "m.onnx", GPU, tmp_path / "out.onnx", only="qdq")
    made = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(made, full_check=True)
    left = legality.check(tmp_path / "out.onnx", GPU, only="qdq")
    assert not [f for f in left if f.level == "error"], left
    want, got = run(sound), run(made)
    assert np.linalg.norm(got - want) < 0.05 * np.linalg.norm(want)


def residual(paired: bool) -> Any:
    """conv -> [pair ->] Add(pair of x's conv) -> relu -> pair -> conv."""

    def weight(name: str) -> Any:
        return numpy_helper.from_array(
            (DRAW.normal(size=(3, 3, 1, 1)) / 2).astype(np.float32), name
        )

    def pair(value: str) -> list[Any]:
        return [
            helper.make_node("QuantizeLinear", [value, "s", "z"], [f"{value}_q"], f"{value}_Q"),
            helper.make_node(
                "DequantizeLinear", [f"{value}_q", "s", "z"], [f"{value}_f"], f"{value}_DQ"
            ),
        ]

    nodes = [
        *pair("x"),
        helper.make_node("Conv", ["x_f", "a"], ["c"], "conv"),
        *(pair("c") if paired else []),
        helper.make_node("Add", ["c_f" if paired else "c", "x_f"], ["sum"], "add"),
        *pair("sum"),
        helper.make_node("Conv", ["sum_f", "b"], ["y"], "last"),
    ]
    body = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [weight("a"), weight("b"), numpy_helper.from_array(np.float32(0.05), "s"),
         numpy_helper.from_array(np.int8(0), "z")],
    )  # fmt: skip
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_pair_before_a_residual_addition_is_taken_out(tmp_path: Path) -> None:
    """What engines fuse is the product with its addition; rounding in between stops that."""
    proto = residual(True)
    onnx.save(proto, tmp_path / "m.onnx")
    found = legality.check(tmp_path / "m.onnx", GPU, only="qdq_residual")
    assert [f.where for f in found] == ["add"]
    assert legality.fix(tmp_path / "m.onnx", GPU, tmp_path / "out.onnx", only="qdq_residual")
    made = onnx.load(tmp_path / "out.onnx")
    assert [n.name for n in made.graph.node] == [n.name for n in residual(False).graph.node]
    want, got = run(proto), run(made)
    assert np.abs(got - want).max() < 0.2
    assert not legality.check(tmp_path / "out.onnx", GPU, only="qdq_residual")


def test_the_command_lints_and_mends(sound: Any, tmp_path: Path) -> None:
    """For this machine where no target is named; --json has every finding."""
    proto = copy(sound)
    repeated_pair(proto)
    onnx.save(proto, tmp_path / "m.onnx")
    words = ["inspect", str(tmp_path / "m.onnx"), "--lint"]
    done = CliRunner().invoke(cli, [*words, "--json"], standalone_mode=False)
    findings = json.loads(done.stdout)["data"]["findings"]
    assert [f["rule"] for f in findings] == ["qdq_weights"]
    out = tmp_path / "out.onnx"
    done = CliRunner().invoke(cli, [*words, "--fix", str(out)], standalone_mode=False)
    assert "rounded once, not twice" in done.stdout
    assert out.exists()


def test_a_float_graph_has_nothing_to_lint(tmp_path: Path) -> None:
    """And no fix is written, which is said, with an older file that stands there."""
    model, stale = testing.convnet(tmp_path / "m.onnx"), tmp_path / "stale.onnx"
    stale.write_bytes(b"older")
    words = ["inspect", str(model.path), "--lint", "--fix", str(stale)]
    told = CliRunner().invoke(cli, words, standalone_mode=False)
    assert f"{stale} was not written, and is older than this" in told.output
    assert stale.read_bytes() == b"older"
    assert not legality.check(model.path, CPU, only="qdq")
    assert not legality.fix(model.path, CPU, tmp_path / "out.onnx", only="qdq")


TWICE = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 4] x) => (float[n, 4] y, float[n, 4] z)
<float[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float s1 = {0.2}, float s2 = {0.05}, int8 zero = {0}>
{
  q1 = QuantizeLinear(w, s1, zero)  d1 = DequantizeLinear(q1, s1, zero)  y = MatMul(x, d1)
  q2 = QuantizeLinear(w, s2, zero)  d2 = DequantizeLinear(q2, s2, zero)  z = MatMul(x, d2)
}
"""


def test_a_weight_that_is_rounded_in_two_ways_keeps_both(tmp_path: Path) -> None:
    """A table that is looked up and multiplied by: folded, each has its own integers."""
    onnx.save(onnx.parser.parse_model(TWICE), tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", CPU, tmp_path / "fixed.onnx", "qdq")
    feed = {"x": DRAW.normal(size=(3, 4)).astype(np.float32)}
    before, after = (
        onnxruntime.InferenceSession(
            tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"]
        ).run(None, feed)
        for name in ("m", "fixed")
    )
    for want, got in zip(before, after, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_pair_whose_second_half_has_no_zero_point_is_one(tmp_path: Path) -> None:
    """ONNX leaves it out where it is 0: int8 by the type of what is read."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 4] x) => (float[n, 4] y)
    <float s = {0.1}, int8 zero = {0}, float[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}>
    { q = QuantizeLinear(x, s, zero)  d = DequantizeLinear(q, s)  y = MatMul(d, w) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    assert legality.check(tmp_path / "m.onnx", CPU, [], "qdq") is not None
    legality.fix(tmp_path / "m.onnx", CPU, tmp_path / "fixed.onnx", "qdq")


def test_what_a_branch_reads_is_kept(tmp_path: Path) -> None:
    """TensorRT's fix of a bias takes away what nothing reads any more, not what a subgraph does."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 4] x, bool c) => (float[n, 4] y)
    <int32[4] b = {1,2,3,4}, float s = {0.1}, int32 zero = {0}, float[4] only = {1,1,1,1}>
    {
      d = DequantizeLinear(b, s, zero)  h = Add(x, d)
      y = If(c) <then_branch = t () => (float[n, 4] p) { p = Add(h, only) },
                 else_branch = e () => (float[n, 4] q) { q = Neg(h) }>
    }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", GPU, tmp_path / "fixed.onnx", "qdq")
    names = {t.name for t in onnx.load(tmp_path / "fixed.onnx").graph.initializer}
    assert "only" in names
    assert "b" not in names


def test_int16_weights_are_left_as_exact_as_they_are(tmp_path: Path) -> None:
    """Scales along another axis are chosen anew for int8 alone: that is what would be made."""
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[4, 8] x) => (float[4, 8] y)
    { d = DequantizeLinear<axis = 0>(q, s, z)  y = MatMul(x, d) }
    """
    for kind in (np.int8, np.int16):
        proto = onnx.parser.parse_model(text)
        put(proto, "q", np.arange(64).reshape(8, 8).astype(kind))
        put(proto, "s", np.geomspace(1, 1e-3, 8, dtype=np.float32))
        put(proto, "z", np.zeros(8, kind))
        onnx.save(proto, tmp_path / "m.onnx")
        lines = legality.fix(tmp_path / "m.onnx", CPU, tmp_path / "fixed.onnx", "qdq_weights")
        assert bool(lines) == (kind is np.int8)


def test_scales_that_two_rules_choose_are_those_of_the_last(tmp_path: Path) -> None:
    """TensorRT: a weight becomes symmetric, then its scales turn to its columns, integers and all."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4, 3, 8, 8] x) => (float[4, 3, 8, 8] y)
    { d = DequantizeLinear<axis = 0>(q, s, z)  y = MatMul(x, d) }
    """
    proto = onnx.parser.parse_model(text)
    put(proto, "q", np.random.default_rng(3).integers(0, 256, (8, 8)).astype(np.uint8))
    put(proto, "s", np.geomspace(1, 1e-3, 8, dtype=np.float32))
    put(proto, "z", np.full(8, 128, np.uint8))
    onnx.save(proto, tmp_path / "m.onnx")
    lines = legality.fix(tmp_path / "m.onnx", GPU, tmp_path / "fixed.onnx", "qdq")
    assert [line.partition(": ")[2] for line in lines] == [
        "weights became symmetric int8",
        "scales along axis 1, its output channels",
    ]
    made = onnx.load(tmp_path / "fixed.onnx")
    onnx.checker.check_model(made, full_check=True)
    want, got = run(proto), run(made)
    assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)


HALVES = """
<ir_version: 9, opset_import: ["" : 19]>
g (float[4, 3, 8, 8] x) => (float[4, 3, 8, 8] y)
<uint8 z = {100}>
{
  h = Cast<to = 10>(x)  q = QuantizeLinear(h, s, z)  d = DequantizeLinear(q, s, z)
  w = DequantizeLinear<axis = AXIS>(qw, sw, zw)  m = MatMul(d, w)  y = Cast<to = 1>(m)
}
"""


@pytest.mark.parametrize("axis", [0, 1])
def test_new_scales_are_of_the_old_ones_type(tmp_path: Path, axis: int) -> None:
    """A float16 scale makes a float16 value: a float32 one in its place is no valid graph. Weights of a
    few steps, whose new scale float16 all but loses, keep their values."""
    proto = onnx.parser.parse_model(HALVES.replace("AXIS", str(axis)))
    whole = np.random.default_rng(4).integers(0, 256, (8, 8)).astype(np.uint8)
    whole[:, 0], whole[0], whole[3], whole[:, 3] = 0, 0, 129, 129
    put(proto, "s", np.float16(0.05))
    put(proto, "qw", whole)
    put(proto, "sw", np.full(8, 1e-5, np.float16))
    put(proto, "zw", np.full(8, 128, np.uint8))
    onnx.save(proto, tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", GPU, tmp_path / "fixed.onnx", "qdq")
    made = onnx.load(tmp_path / "fixed.onnx")
    onnx.checker.check_model(made, full_check=True)
    scales = {n.input[1] for n in made.graph.node if n.op_type.endswith("Linear")}
    assert {array(made, name).dtype for name in scales} == {np.dtype(np.float16)}
    want, got = run(proto), run(made)
    assert np.linalg.norm(got - want) < 0.05 * np.linalg.norm(want)
    assert np.allclose(got[..., 3], want[..., 3], rtol=0.1, atol=1e-5)


def test_a_type_that_is_told_twice_is_told_once(tmp_path: Path) -> None:
    """From opset 21 on QuantizeLinear may name its type beside its zero point; both must agree."""
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[4, 3, 8, 8] x) => (float[4, 3, 8, 8] y)
    <float s = {0.05}, int8 z = {3}>
    { q = QuantizeLinear<output_dtype = 3>(x, s, z)  y = DequantizeLinear(q, s, z) }
    """
    proto = onnx.parser.parse_model(text)
    onnx.save(proto, tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", CPU, tmp_path / "fixed.onnx", "qdq")
    made = onnx.load(tmp_path / "fixed.onnx")
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_array_equal(run(made), run(proto))


@pytest.mark.parametrize(("target", "kind"), [(CPU, "int8"), (GPU, "uint8")])
def test_what_was_noted_of_the_integers_is_forgotten(
    target: Any, kind: str, tmp_path: Path
) -> None:
    """A graph that tells the type of the values between a pair is whole after that type has changed."""
    text = f"""
    <ir_version: 9, opset_import: ["" : 19]>
    g (float[4, 3, 8, 8] x) => (float[4, 3, 8, 8] y)
    <float s = {{0.05}}, {kind} z = {{3}}, {kind}[4, 3, 8, 8] q>
    {{ q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }}
    """
    proto = onnx.parser.parse_model(text)
    assert [v.name for v in proto.graph.value_info] == ["q"]
    onnx.save(proto, tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", target, tmp_path / "fixed.onnx", "qdq")
    onnx.checker.check_model(onnx.load(tmp_path / "fixed.onnx"), full_check=True)


def test_a_half_bias_of_many_steps_is_finite(tmp_path: Path) -> None:
    """100,000 steps of 1e-5 are 1, though float16 has no 100,000."""
    text = """
    <ir_version: 9, opset_import: ["" : 19]>
    g (float16[1] x) => (float16[1] y)
    <int32[1] b = {100000}>
    { d = DequantizeLinear(b, s)  y = Add(x, d) }
    """
    proto = onnx.parser.parse_model(text)
    put(proto, "s", np.float16(1e-5))
    onnx.save(proto, tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", GPU, tmp_path / "fixed.onnx", "qdq")
    bias = array(onnx.load(tmp_path / "fixed.onnx"), "d")
    assert bias.dtype == np.float16
    np.testing.assert_allclose(bias, [1.0], rtol=0.01)


def test_an_axis_may_be_counted_from_the_end(tmp_path: Path) -> None:
    """Of four axes, -4 is a convolution's output channels."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[4, 3, 8, 8] x) => (float[4, 2, 8, 8] y)
    <int8[2, 3, 1, 1] w = {1, 2, 3, 4, 5, 6}, float[2] s = {0.1, 0.2}>
    { d = DequantizeLinear<axis = -4>(w, s)  y = Conv(x, d) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    found = legality.check(tmp_path / "m.onnx", GPU, [], "qdq")
    assert not [f for f in found if f.level == "error"], found
