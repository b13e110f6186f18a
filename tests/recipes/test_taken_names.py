"""A graph that has the very names that a quantizer would give to something new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from small_graphs import Node, drawn

from accel import catalog, graph
from accel.errors import CandidateBroken
from accel.explaining.view import View, aligned
from accel.qdq import order
from accel.values import Model, QuantStyle

PLAIN = QuantStyle(True, False, True, False, True)
FEEDS = [{"x": np.random.default_rng(i).normal(size=(4, 8)).astype(np.float32)} for i in range(4)]
W = np.random.default_rng(7).normal(size=(8, 8)).astype(np.float32) / 3
TAKEN = (
    "__half", "__cast", "__half__cast", "__scale", "__zero", "__int8", "__float", "__Q", "__DQ",
    "__smooth", "__migrated", "__ReduceMax", "__ReduceMin",
)  # fmt: skip


def _hard(path: Path, tail: str) -> Model:
    """relu(x w) w + x: a value of it is called as what a recipe makes of x."""
    nodes: list[Node] = [
        ("MatMul", "x w", f"x{tail}", {}),
        ("Relu", f"x{tail}", "r", {}),
        ("MatMul", f"r x{tail}_2", "m", {}),
        ("Add", "m x", "y", {}),
    ]
    return drawn(path, nodes, 17, **{"w": W, f"x{tail}_2": W.T.copy()})


def _answers(path: Path) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, dict(feed))[0] for feed in FEEDS])


@pytest.mark.parametrize("tail", TAKEN)
@pytest.mark.parametrize(
    ("recipe", "options"),
    [("fp16", {"keep": "range"}), ("int8_mixed", {"ranges": "minmax", "migrate": 0.8})],
)
def test_a_taken_name_is_left_to_whom_it_belongs(
    tmp_path: Path, tail: str, recipe: str, options: dict[str, Any]
) -> None:
    """The graph that comes out is valid, and close."""
    model = _hard(tmp_path / "hard.onnx", tail)
    made = catalog.load("recipes", recipe).apply(model, FEEDS, PLAIN, options, tmp_path)
    want = _answers(model.path)
    assert np.abs(_answers(made.model.path) - want).max() < 0.05 * np.abs(want).max()


def test_a_graph_in_16_bits_may_be_treated_again(tmp_path: Path) -> None:
    """What the recipe made has all of its names: a second pass takes others."""
    model = _hard(tmp_path / "plain.onnx", "_")
    member = catalog.load("recipes", "fp16")
    first = member.apply(model, FEEDS, PLAIN, {"keep": "range"}, tmp_path)
    kept = Model(first.model.path.rename(tmp_path / "first.onnx"), "d", model.inputs, model.outputs)
    again = member.apply(kept, FEEDS, PLAIN, {"keep": "range"}, tmp_path)
    assert np.abs(_answers(again.model.path) - _answers(kept.path)).max() < 0.01


def test_new_names_are_plain_where_none_is_taken(tmp_path: Path) -> None:
    """The mark between name and tail is nothing, or the first number that is free."""
    proto = graph.open_model(_hard(tmp_path / "hard.onnx", "__int8").path)
    assert order.mark(proto, [("x", "__scale"), ("r", "__int8")]) == ""
    assert order.mark(proto, [("x", "__scale"), ("x", "__int8")]) == "_2"


@pytest.mark.parametrize("recipe", ["int8_static", "int8_dynamic"])
@pytest.mark.parametrize("tail", ["_scale", "_QuantizeLinear_Output"])
def test_the_quantizer_that_looks_at_no_names_is_not_asked(
    tmp_path: Path, recipe: str, tail: str
) -> None:
    """ONNX Runtime's took a constant of the graph for its own scale, and gave wrong numbers."""
    model = _hard(tmp_path / "hard.onnx", tail)
    options = {"tool": "onnxruntime", "method": "MinMax"} if recipe == "int8_static" else {}
    with pytest.raises(CandidateBroken, match=f"'x{tail}' stands beside 'x'"):
        catalog.load("recipes", recipe).apply(model, FEEDS, PLAIN, options, tmp_path)


def test_another_value_is_not_taken_for_the_second_form(tmp_path: Path) -> None:
    """explain: x__half of the float graph is a value of its own, not x in 16 bits."""
    view = View(graph.open_model(_hard(tmp_path / "hard.onnx", "__half").path))
    assert aligned(view, view)["x"] == "x"
