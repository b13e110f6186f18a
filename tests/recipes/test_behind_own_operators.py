"""Products behind operators of ONNX Runtime's own, and of weights that are Constant nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import catalog, graph
from accel.errors import CandidateBroken
from accel.values import Model, QuantStyle

ORT = QuantStyle(True, False, True, False, True)
WIDTH = 64
RECIPES: list[tuple[str, dict[str, Any], str]] = [
    ("weight_only", {"bits": 4, "block": 32}, "int4"),
    ("int8_mixed", {"ranges": "mse", "correct": True}, "int8"),
]
FEEDS = [{"x": np.random.default_rng(i).normal(size=(2, 5, WIDTH)).astype("f4")} for i in range(4)]


def _saved(path: Path, nodes: list[Any], **weights: Any) -> Model:
    """x [n, 5, 64] -> y, by these nodes."""
    ports = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 5, WIDTH])] for n in "xy")
    held = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    body = helper.make_graph(nodes, "g", *ports, held)
    onnx.save(helper.make_model(body, opset_imports=opsets, ir_version=8), path)
    return graph.describe(path)


def _drawn(*shape: int) -> Any:
    return np.random.default_rng(7).normal(size=shape).astype(np.float32) / 8


def _fused(path: Path) -> Model:
    """x a, normed, b, gelu, c."""
    own = {"domain": "com.microsoft"}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("SkipLayerNormalization", ["h", "x", "gamma", "beta"], ["s"], **own),
        helper.make_node("MatMul", ["s", "b"], ["k"]),
        helper.make_node("BiasGelu", ["k", "beta"], ["u"], **own),
        helper.make_node("MatMul", ["u", "c"], ["y"]),
    ]
    matrices = {name: _drawn(WIDTH, WIDTH) for name in "abc"}
    return _saved(path, nodes, **matrices, gamma=np.ones(WIDTH, "f4"), beta=_drawn(WIDTH))


def _answer(path: Path) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, FEEDS[0])[0]


def _made(model: Model, recipe: str, options: dict[str, Any], folder: Path) -> Any:
    (folder / "out").mkdir()
    member = catalog.load("recipes", recipe)
    return member.apply(model, iter(FEEDS), ORT, options, folder / "out")


@pytest.mark.parametrize(("recipe", "options", "kind"), RECIPES)
def test_every_product_of_a_fused_graph_is_rounded(
    recipe: str, options: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    """One of three was, and the table said nothing of the others."""
    model = _fused(tmp_path / "model.onnx")
    made = _made(model, recipe, options, tmp_path)
    assert (made.facts[kind], made.facts["float32"]) == (3, 0)
    assert "kept in fp32" not in made.facts
    wanted, found = _answer(model.path), _answer(made.model.path)
    assert np.abs(found - wanted).mean() < 0.15 * np.abs(wanted).mean()


@pytest.mark.parametrize(("recipe", "options", "kind"), RECIPES)
def test_products_of_unknown_type_are_kept_with_the_reason(
    recipe: str, options: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    """Nobody knows what Trilu of com.microsoft makes, so the product behind it stays."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Trilu", ["h"], ["t"], domain="com.microsoft"),
        helper.make_node("MatMul", ["t", "b"], ["y"]),
    ]
    model = _saved(tmp_path / "m.onnx", nodes, a=_drawn(WIDTH, WIDTH), b=_drawn(WIDTH, WIDTH))
    facts = _made(model, recipe, options, tmp_path).facts
    assert (facts[kind], facts["float32"]) == (1, 1)
    assert facts["kept in fp32"] == "1 behind an operator whose types are not known"


@pytest.mark.parametrize(("recipe", "options"), [(r, o) for r, o, _ in RECIPES])
def test_where_no_other_is_left_the_refusal_says_why(
    recipe: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """The reason stands in the one line that a candidate leaves."""
    nodes = [
        helper.make_node("Trilu", ["x"], ["t"], domain="com.microsoft"),
        helper.make_node("MatMul", ["t", "b"], ["y"]),
    ]
    model = _saved(tmp_path / "m.onnx", nodes, b=_drawn(WIDTH, WIDTH))
    with pytest.raises(CandidateBroken, match="1 behind an operator whose types are not known"):
        _made(model, recipe, options, tmp_path)


@pytest.mark.parametrize(("recipe", "options", "kind"), RECIPES)
def test_a_weight_that_is_a_constant_node_is_rounded(
    recipe: str, options: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    """As some exporters write all weights."""
    weight = numpy_helper.from_array(_drawn(WIDTH, WIDTH))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    model = _saved(tmp_path / "m.onnx", nodes)
    made = _made(model, recipe, options, tmp_path)
    assert (made.facts[kind], made.facts["float32"]) == (1, 0)
    wanted, found = _answer(model.path), _answer(made.model.path)
    assert np.abs(found - wanted).mean() < 0.15 * np.abs(wanted).mean()
