"""Embedding tables as int8: looked up, then scaled; what else reads one leaves it as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import graph, testing
from accel.errors import CandidateBroken
from accel.qdq import tables
from accel.questions.explain import explain
from accel.recipes import int8_mixed
from accel.values import QuantStyle

U8S8 = QuantStyle(True, False, True, False, True)
ROWS, WIDTH = 300, 256
IDS = {"ids": np.asarray([[3, 299, 0, 3]], np.int64)}


def model(*more: Any) -> Any:
    """table[ids] @ w, and whatever is added."""
    draw = np.random.default_rng(4)
    weights = {"table": draw.normal(size=(ROWS, WIDTH)), "w": draw.normal(size=(WIDTH, 8))}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], "lookup"),
        helper.make_node("MatMul", ["rows", "w"], ["y"], "product"),
        *more,
    ]
    body = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "s"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "s", 8])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run(proto: Any, value: str = "") -> Any:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    if value:
        made.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    return onnxruntime.InferenceSession(made.SerializeToString()).run([value or "y"], IDS)[0]


def test_rows_come_back_within_half_a_step_of_their_column() -> None:
    """A row of the table is a quarter as long in the file, and is what was looked up."""
    exact = model()
    made = onnx.ModelProto()
    made.CopyFrom(exact)
    assert tables.quantize(made) == ("table",)
    assert made.ByteSize() < 0.4 * exact.ByteSize()
    table = numpy_helper.to_array(exact.graph.initializer[0])
    step = 2 * np.abs(table).max(axis=0) / 254
    assert (np.abs(run(made, "rows") - run(exact, "rows")) <= 0.501 * step).all()


@pytest.mark.parametrize(
    "reader",
    [
        helper.make_node("Transpose", ["table"], ["tied"], "tied"),  # as tied output weights do
        helper.make_node("Gather", ["table", "ids"], ["z"], "columns", axis=1),
        helper.make_node("Gather", ["w", "table"], ["z"], "ids_of_another"),
    ],
)
def test_a_table_that_is_read_otherwise_stays(reader: Any) -> None:
    """Another node would read numbers of another size."""
    assert tables.tables(model(reader)) == ()


def test_the_recipe_leaves_a_table_that_is_named(tmp_path: Path) -> None:
    """int8_mixed changes tables where that is asked for, and takes one back by its name."""
    onnx.save(model(), tmp_path / "m.onnx")
    described = graph.describe(tmp_path / "m.onnx")
    for left, count in (((), 1), (("table",), 0)):
        out = tmp_path / f"out{count}"
        out.mkdir()
        options = {"ranges": "minmax", "tables": True, "float": left}
        made = int8_mixed.apply(described, [IDS], U8S8, options, out)
        assert made.facts.get("tables", 0) == count
        got = run(onnx.load(made.model.path))
        assert np.linalg.norm(got - run(model())) < 0.03 * np.linalg.norm(run(model()))


def test_a_graph_without_a_table_is_no_candidate_for_it(tmp_path: Path) -> None:
    """It would be the same as without the option."""
    made = testing.mlp(tmp_path / "m.onnx")
    feeds = [{"x": np.ones((4, 8), np.float32)}]
    with pytest.raises(CandidateBroken, match="no table"):
        int8_mixed.apply(made, feeds, U8S8, {"ranges": "mse", "tables": True}, tmp_path)


def test_explain_takes_a_table_back(tmp_path: Path) -> None:
    """A table whose scales are of another checkpoint is named first."""
    exact, made = model(), model()
    tables.quantize(made)
    scale = next(t for t in made.graph.initializer if t.name == "table__scale")
    wrong = 3 * numpy_helper.to_array(scale)
    scale.CopyFrom(numpy_helper.from_array(wrong, scale.name))
    for name, proto in (("exact", exact), ("made", made)):
        onnx.save(proto, tmp_path / f"{name}.onnx")
    told = explain(tmp_path / "made.onnx", tmp_path / "exact.onnx", [IDS])
    assert told.suspects[0].value == "rows"
    assert told.suspects[0].recovered == pytest.approx(1, abs=1e-3)
    assert told.suspects[0].kind == "wrong or stale scale"
