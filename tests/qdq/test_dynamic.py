"""Products whose activations are quantized as they pass: beside static ones, and near where ranges wander."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from accel import catalog, target, testing
from accel.errors import CandidateBroken
from accel.qdq.sites import sites
from accel.recipes import int8_mixed
from accel.values import Feed, Model

STYLE = catalog.load("engines", "onnxruntime_cpu").style(target.load("cpu-x86-avx512-vnni"))
PLAIN = {"ranges": "minmax", "correct": True}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Three products by a matrix, a bias behind each, a Relu between."""
    return testing.mlp(tmp_path / "m.onnx", width=32, layers=2)


def feeds(model: Model) -> list[Feed]:
    """Of sizes from 1 to 1,000: one static range fits the largest alone."""
    draw, width = np.random.default_rng(0), int(model.inputs[0].shape[1])
    return [
        {"x": (10.0**k * draw.normal(size=(8, width))).astype(np.float32)} for k in (0, 1, 2, 3)
    ]


def products(model: Model) -> list[str]:
    return [s.name for s in sites(onnx.load(model.path)) if s.operator == "MatMul"]


def made(model: Model, options: Any, folder: Path) -> Any:
    folder.mkdir()
    return int8_mixed.apply(model, feeds(model), STYLE, {**PLAIN, **options}, folder)


def off(model: Model, path: Path) -> float:
    """Of the smallest feed: |error| over |answer|."""
    feed = dict(feeds(model)[0])
    wanted, found = (
        onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for p in (model.path, path)
    )
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_it_is_near_where_a_static_range_is_not(model: Model, tmp_path: Path) -> None:
    """Numbers of every size: a scale for each tensor keeps two digits, one for all loses the small ones."""
    chosen = {"float": products(model), "left": "dynamic"}
    static, passing = (
        made(model, {}, tmp_path / "static"),
        made(model, chosen, tmp_path / "passing"),
    )
    assert (passing.facts["dynamic"], passing.facts["int8"], passing.facts["float32"]) == (3, 0, 0)
    assert off(model, passing.model.path) < 0.03 < off(model, static.model.path)


def test_onnx_runtime_runs_it_in_int8(model: Model, tmp_path: Path) -> None:
    """Its optimizer finds the pattern: one fused node for each, with the bias in it."""
    chosen = products(model)[:2]
    passing = made(model, {"float": chosen, "left": "dynamic"}, tmp_path / "passing")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(passing.model.path, options, providers=["CPUExecutionProvider"])
    kinds = [n.op_type for n in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert kinds.count("DynamicQuantizeMatMul") == len(chosen)
    assert "MatMulInteger" not in kinds


def test_the_same_value_is_quantized_once(tmp_path: Path) -> None:
    """Query, key and value of an attention read one tensor: one DynamicQuantizeLinear serves them."""
    model = testing.attention(tmp_path / "m.onnx", width=64)
    given = [testing.tokens(batch=2, length=3 + i).inputs for i in range(4)]
    every = [s for s in sites(onnx.load(model.path)) if s.operator == "MatMul" and s.weight]
    chosen = [s.name for s in every[:-1]]
    out = tmp_path / "made"
    out.mkdir()
    options = {**PLAIN, "float": chosen, "left": "dynamic"}
    passing = int8_mixed.apply(model, given, STYLE, options, out)
    proto = onnx.load(passing.model.path)
    onnx.checker.check_model(proto, full_check=True)
    readers = {onnx.load(model.path).graph.node[s.index].input[0] for s in every[:-1]}
    assert sum(n.op_type == "DynamicQuantizeLinear" for n in proto.graph.node) == len(readers)
    answers = onnxruntime.InferenceSession(passing.model.path).run(None, dict(given[0]))
    assert all(np.isfinite(a).all() for a in answers)


def test_where_nothing_is_left_out_there_is_nothing_to_do(model: Model, tmp_path: Path) -> None:
    """The option changes what is named in `float`, and that is told where it is nothing."""
    with pytest.raises(CandidateBroken, match="no product by a matrix is left out"):
        made(model, {"left": "dynamic"}, tmp_path / "made")
