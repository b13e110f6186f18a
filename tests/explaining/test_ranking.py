"""What stands first: a fault before rounding, unless rounding is far more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from accel.questions.explain import explain
from accel.values import Model
from tests.explaining.planted import changed, scaled


def test_a_fault_stands_before_what_is_only_rounded(
    int8: Path, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """Every int8 graph rounds; a scale that is stale mends less than that here, and is the news."""
    first, second, *_ = explain(
        changed(int8, tmp_path, scaled("r1__scale", 8)), model.path, feeds
    ).suspects
    assert (first.value, first.kind) == ("r1", "wrong or stale scale")
    assert not second.kind
    assert second.recovered > first.recovered


def test_a_fault_that_costs_next_to_nothing_does_not(
    int8: Path, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """A range four times too wide, where rounding elsewhere mends seven times as much."""
    found = explain(changed(int8, tmp_path, scaled("r1__scale", 4)), model.path, feeds).suspects
    kinds = [s.kind for s in found]
    assert not kinds[0]
    assert found[0].recovered > 4 * found[kinds.index("wrong or stale scale")].recovered


def test_what_cannot_be_taken_back_hides_no_other_part(tmp_path: Path) -> None:
    """Two weights that each spoil all are told beside a node whose type does not fit the reference's."""
    draw = np.random.default_rng(8)
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 8] x) => (float[n, 8] y) {{ {} q = MatMul(r, w1)  y = MatMul(q, w2) }}
    """
    first = "p = MatMul(x, w0)  r = Relu(p)"
    wider = "f = MatMul(x, w0)  p = Cast<to = 11>(f)  t = Tanh(p)  r = Cast<to = 1>(t)"
    weights = {f"w{i}": draw.normal(size=(8, 8)).astype(np.float32) for i in range(3)}
    for name, nodes, factor in (("one", first, 1), ("two", wider, np.float32(1e6))):
        proto = onnx.parser.parse_model(text.format(nodes))
        spoilt = {n: w if n == "w0" else w * factor for n, w in weights.items()}
        proto.graph.initializer.extend(
            onnx.numpy_helper.from_array(w, n) for n, w in spoilt.items()
        )
        onnx.save(proto, tmp_path / f"{name}.onnx")
    feeds = [{"x": draw.normal(size=(16, 8)).astype(np.float32)}]
    found = explain(tmp_path / "two.onnx", tmp_path / "one.onnx", feeds)
    assert {s.value for s in found.suspects} == {"q", "y"}
    assert all(s.alone and s.recovered > 0.9 for s in found.suspects)
    (untold,) = found.untold
    assert untold.startswith("node r: ")
