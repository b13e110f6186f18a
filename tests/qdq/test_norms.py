"""Batch normalisation is folded into the product before it: the same answers, and int8 on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import graph
from accel.errors import CandidateBroken
from accel.qdq import norms
from accel.qdq.sites import sites
from accel.recipes import int8_mixed
from accel.values import QuantStyle

F = TensorProto.FLOAT
DRAW = np.random.default_rng(8)
U8S8 = QuantStyle(True, False, True, False, True)
NORM = ("gain", "offset", "mean", "variance")
IMAGE, ROW = [2, 4, 6, 6], [6, 4]


def drawn(*shape: int) -> Any:
    return DRAW.normal(size=shape)


def norm(channels: int, tail: str = "") -> dict[str, Any]:
    """Its four constants."""
    values = (drawn(channels), drawn(channels), drawn(channels), drawn(channels) ** 2 + 0.5)
    return {f"{name}{tail}": value for name, value in zip(NORM, values, strict=True)}


def normed(value: str, out: str, tail: str = "", **options: Any) -> Any:
    inputs = [value, *(f"{name}{tail}" for name in NORM)]
    return helper.make_node("BatchNormalization", inputs, [out], **options)


def model(nodes: Any, weights: Any, shape: Any, *outputs: str, opset: int = 17) -> Any:
    body = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", F, shape)],
        [helper.make_tensor_value_info(name, F, None) for name in ("y", *outputs)],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    return onnx.shape_inference.infer_shapes(
        helper.make_model(body, opset_imports=opsets, ir_version=9)
    )


def product(operator: str, shape: Any, *constants: Any, **options: Any) -> Any:
    """x -> the product -> its normalisation."""
    weights = dict(zip(("w", "b"), constants, strict=False))
    node = helper.make_node(operator, ["x", *weights], ["h"], "product", **options)
    return model([node, normed("h", "y", epsilon=0.01)], {**weights, **norm(8)}, shape)


def run(proto: Any) -> Any:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (given,) = session.get_inputs()
    x = np.random.default_rng(2).normal(size=given.shape).astype(np.float32)
    return session.run(None, {"x": x})


def kinds(proto: Any) -> list[str]:
    return [n.op_type for n in proto.graph.node]


PRODUCTS = {
    "convolution": product("Conv", IMAGE, drawn(8, 4, 3, 3), drawn(8)),
    "without a bias": product("Conv", IMAGE, drawn(8, 4, 3, 3)),
    "depthwise": product("Conv", IMAGE, drawn(8, 1, 3, 3), drawn(8), group=4),
    "transposed": product("ConvTranspose", IMAGE, drawn(4, 8, 3, 3), drawn(8)),
    "transposed in groups": product("ConvTranspose", IMAGE, drawn(4, 4, 3, 3), drawn(8), group=2),
    "gemm": product("Gemm", ROW, drawn(4, 8), drawn(8)),
    "gemm with options": product(
        "Gemm", ROW, drawn(8, 4), drawn(1, 8), transB=1, alpha=0.5, beta=3.0
    ),
    "gemm with one number": product("Gemm", ROW, drawn(4, 8), drawn(), beta=2.0),
    "gemm without a bias": product("Gemm", ROW, drawn(4, 8)),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_the_answers_are_the_same(kind: str) -> None:
    """To float32's rounding, with one node fewer and none of the old constants."""
    exact = PRODUCTS[kind]
    made, count = norms.folded(exact)
    onnx.checker.check_model(made, full_check=True)
    assert (count, len(made.graph.node), len(made.graph.initializer)) == (1, 1, 2)
    np.testing.assert_allclose(run(made)[0], run(exact)[0], rtol=1e-4, atol=1e-4)


def test_a_product_whose_value_is_wanted_stays_as_it_is() -> None:
    """So that a graph which still makes that value can be compared with this one."""
    exact = PRODUCTS["convolution"]
    assert norms.folded(exact, {"h"}) == (exact, 0)
    assert norms.folded(exact, {"y"})[1] == 1


def test_what_reads_the_product_as_well_gets_it_as_it_was() -> None:
    """Another node, the caller, or a branch: then nothing is folded."""
    for reader in ("node", "output", "branch"):
        exact = product("Conv", IMAGE, drawn(8, 4, 3, 3))
        if reader == "output":
            exact.graph.output.append(helper.make_tensor_value_info("h", F, None))
        elif reader == "node":
            exact.graph.node.append(helper.make_node("Relu", ["h"], ["z"]))
        else:
            inner = helper.make_graph(
                [helper.make_node("Relu", ["h"], ["z"])], "inner", [],
                [helper.make_tensor_value_info("z", F, None)],
            )  # fmt: skip
            branches = {"then_branch": inner, "else_branch": inner}
            exact.graph.node.append(helper.make_node("If", ["yes"], ["r"], **branches))
        assert norms.folded(exact) == (exact, 0)


@pytest.mark.parametrize("why", ["it trains", "its variance is negative", "a number a row"])
def test_what_is_no_constant_a_channel_is_left_alone(why: str) -> None:
    """By the batch's own mean, of what has no root, and behind a bias that is not the channels'."""
    exact = product("Gemm", [8, 4], drawn(4, 8), drawn(8, 1) if "row" in why else drawn(8))
    if why == "it trains":
        exact.graph.node[1].attribute.append(helper.make_attribute("training_mode", 1))
        exact.graph.node[1].output.extend(["m", "v"])
    if "variance" in why:
        (variance,) = (t for t in exact.graph.initializer if t.name == "variance")
        variance.CopyFrom(numpy_helper.from_array(-np.ones(8, np.float32), "variance"))
    assert norms.folded(exact) == (exact, 0)


def twins(opset: int = 17) -> Any:
    """Two convolutions without names that share a weight, each with a normalisation of its own, and a third."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c0"], pads=[1] * 4),
        normed("c0", "n0", "0"),
        helper.make_node("Relu", ["n0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w"], ["c1"], pads=[1] * 4),
        normed("c1", "n1", "1"),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("Conv", ["r1", "k"], ["y"]),
    ]
    weights = {"w": drawn(4, 4, 3, 3), "k": drawn(3, 4, 1, 1), **norm(4, "0"), **norm(4, "1")}
    return model(nodes, weights, IMAGE, "w", opset=opset)


def test_a_weight_of_two_products_serves_both() -> None:
    """And who else reads it gets it as it was: here the caller."""
    exact = twins()
    made, count = norms.folded(exact)
    assert count == 2
    assert kinds(made) == ["Conv", "Relu", "Conv", "Relu", "Conv"]
    for got, want in zip(run(made), run(exact), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_sites_have_the_names_that_they_had() -> None:
    """The search for what stays in float32 looks at the graph as it was, where a nameless one has its output's."""
    exact = twins()
    names = [s.name for s in sites(exact)]
    assert names == ["c0", "c1", "y"]
    assert [s.name for s in sites(norms.folded(exact)[0])] == names


@pytest.mark.parametrize("opset", [9, 17])
def test_int8_has_no_pair_between_a_convolution_and_its_norm(opset: int, tmp_path: Path) -> None:
    """Values are rounded behind their Relu, as without the norms; and equalisation finds its pairs."""
    exact = twins(opset)
    onnx.save(exact, tmp_path / "m.onnx")
    given = [{"x": drawn(*IMAGE).astype(np.float32)} for _ in range(4)]
    described = graph.describe(tmp_path / "m.onnx")
    for name, more in (("plain", {}), ("equal", {"equalize": True}), ("part", {"float": ["c1"]})):
        (tmp_path / name).mkdir()
        options = {"ranges": "minmax", "correct": True, **more}
        made = int8_mixed.apply(described, given, U8S8, options, tmp_path / name)
        proto = onnx.load(made.model.path)
        assert made.facts["folded"] == 2
        assert "BatchNormalization" not in kinds(proto)
        read = {n.input[0] for n in proto.graph.node if n.op_type == "QuantizeLinear"}
        assert read == ({"x", "r0"} if name == "part" else {"x", "r0", "r1"})
        want, got = run(exact), run(proto)
        assert np.linalg.norm(got[0] - want[0]) < 0.1 * np.linalg.norm(want[0])
        np.testing.assert_array_equal(got[1], want[1])


def test_what_was_folded_away_is_no_site(tmp_path: Path) -> None:
    """The norm's own value is not a name to leave in float32."""
    onnx.save(twins(), tmp_path / "m.onnx")
    given = [{"x": drawn(*IMAGE).astype(np.float32)}]
    options = {"ranges": "minmax", "float": ["n0"]}
    with pytest.raises(CandidateBroken, match="no site is named"):
        int8_mixed.apply(graph.describe(tmp_path / "m.onnx"), given, U8S8, options, tmp_path)
