"""fp16: what a graph counts with, what goes through sequences, and weights that are listed as inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from small_graphs import F, Node, drawn, listed, rotary, types_of

from accel import catalog, testing
from accel.protocols import Quantized
from accel.values import Feed, Model, QuantStyle

STYLE = QuantStyle(True, True, True, True, True)


def _applied(model: Model, feed: Feed, folder: Path, keep: str = "range") -> Quantized:
    """Checked by ONNX's own checker, types and shapes included."""
    folder.mkdir()
    made: Quantized = catalog.load("recipes", "fp16").apply(
        model, [feed], STYLE, {"keep": keep}, folder
    )
    onnx.checker.check_model(onnx.load(made.model.path), full_check=True)
    return made


def _answer(model: Model, feed: Feed) -> Any:
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feed))[0]


def _x() -> Feed:
    return {"x": np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)}


COUNTED: list[Node] = [
    ("Shape", "x", "s", {"end": 1}),
    ("Squeeze", "s", "n", {}),
    ("Range", "zero n step", "rows", {}),
    ("Cast", "rows", "r", {"to": F}),
    ("Add", "r one", "next", {}),
    ("Cast", "next", "k", {"to": TensorProto.INT64}),
    ("Gather", "table k", "t", {}),
    ("Add", "x t", "y", {}),
]


@pytest.mark.parametrize("keep", ["sensitive", "range"])
def test_rows_are_fetched_by_exact_indices(keep: str, tmp_path: Path) -> None:
    """float16 takes row 2049 for 2048: what becomes an index is not rounded, and its table is."""
    weights = {"zero": np.int64(0), "step": np.int64(1), "one": np.float32(1)}
    odd = np.repeat(np.arange(4096) % 2, 8).reshape(4096, 8).astype(np.float32)
    model = drawn(tmp_path / "m.onnx", COUNTED, 17, table=odd, **weights)
    feed = {"x": np.zeros((4000, 8), np.float32)}
    made = _applied(model, feed, tmp_path / "out", keep)
    assert made.facts["kept in fp32"] == "2 exact, 1 no float16"
    assert types_of(made.model.path)["gather_t"] == "FLOAT16"
    wanted, found = (_answer(m, feed) for m in (model, made.model))
    np.testing.assert_array_equal(found, wanted)


def test_angles_stay_exact(tmp_path: Path) -> None:
    """The cosine of position 3999 is that of float32: in float16 its angle would be 4000."""
    model = rotary(tmp_path / "m.onnx", 17)
    feed = {"x": np.ones((4000, 8), np.float32)}
    made = _applied(model, feed, tmp_path / "out")
    kinds = types_of(made.model.path)
    exact = ("cast_p", "unsqueeze_column", "matmul_angles", "cos_c")
    assert {kinds[n] for n in exact} == {"FLOAT"}
    assert {kinds[n] for n in ("matmul_m", "mul_r", "matmul_y")} == {"FLOAT16"}
    wanted, found = (_answer(m, feed) for m in (model, made.model))
    np.testing.assert_allclose(found, wanted, atol=2**-9)


SEQUENCES: dict[str, tuple[int, list[Node]]] = {
    "split": (17, [("SplitToSequence", "a sizes", "q", {}), ("SequenceAt", "q last", "t", {})]),
    "joined": (
        17,
        [
            ("SequenceConstruct", "a x", "q", {}),
            ("SequenceInsert", "q a", "q2", {}),
            ("ConcatFromSequence", "q2", "t", {"axis": 0}),
        ],
    ),
    "optional": (18, [("Optional", "a", "q", {}), ("OptionalGetElement", "q", "t", {})]),
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_what_goes_through_a_sequence_stays(kind: str, tmp_path: Path) -> None:
    """Its tensors are of one type, float32, whoever puts them in or takes them out; the graph runs."""
    opset, middle = SEQUENCES[kind]
    nodes: list[Node] = [
        ("Abs", "x", "a", {}),
        *middle,
        ("Mul", "t t", "s", {}),
        ("Relu", "s", "y", {}),
    ]
    weights = {"sizes": np.array([1, 1]), "last": np.int64(1)} if kind == "split" else {}
    model = drawn(tmp_path / "m.onnx", nodes, opset, **weights)
    made = _applied(model, _x(), tmp_path / "out")
    kinds = {n.op_type: n for n in onnx.load(made.model.path).graph.node}
    assert not any(i.endswith("__half") for o, *_ in middle for i in kinds[o].input)
    assert kinds["Mul"].input[0] == "t__half"
    wanted, found = (_answer(m, _x()) for m in (model, made.model))
    np.testing.assert_allclose(found, wanted, rtol=5e-3, atol=1e-3)


def test_weights_that_an_old_graph_lists_as_inputs_are_halved(tmp_path: Path) -> None:
    """No call casts them: they are float16 in the file, and what a caller gives is as it was."""
    model = listed(testing.mlp(tmp_path / "m.onnx", width=128))
    feed = testing.request(model).inputs
    made = _applied(model, feed, tmp_path / "out")
    proto = onnx.load(made.model.path)
    assert {t.data_type for t in proto.graph.initializer} == {TensorProto.FLOAT16}
    assert [n.input[0] for n in proto.graph.node if n.op_type == "Cast"] == ["x", "y__half"]
    assert [v.name for v in proto.graph.input] == ["x"]
    assert (made.model.inputs, made.model.outputs) == (model.inputs, model.outputs)
    wanted, found = (_answer(m, feed) for m in (model, made.model))
    np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=5e-3)


def test_an_old_graph_gets_constants_that_are_no_inputs(tmp_path: Path) -> None:
    """A Constant node becomes an initializer alone, which IR 3 has not: the file says 4."""
    value = numpy_helper.from_array(np.full(8, 2, np.float32))
    nodes: list[Node] = [("Constant", "", "c", {"value": value}), ("Mul", "x c", "y", {})]
    model = listed(drawn(tmp_path / "m.onnx", nodes, 17))
    made = _applied(model, _x(), tmp_path / "out")
    assert made.facts["fp16"] == "1 of 1 nodes"
    assert onnx.load(made.model.path).ir_version == 4
