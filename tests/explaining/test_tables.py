"""Lookups in int8 tables, as ONNX Runtime's dynamic quantizer writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from accel import graph
from accel.questions.explain import explain
from accel.recipes import int8_dynamic
from tests.explaining.planted import U8S8, changed, scaled

DRAW = np.random.default_rng(6)
FEEDS = [{"ids": DRAW.integers(0, 64, (2, n))} for n in (5, 7)]


@pytest.mark.parametrize("opset", [11, 17])
def test_a_table_of_an_old_opset_is_taken_back(opset: int, tmp_path: Path) -> None:
    """Below 13 a DequantizeLinear has one scale and no axis: the graph that is tried has none either."""
    weights: dict[str, Any] = {"table": DRAW.normal(size=(64, 16)), "w": DRAW.normal(size=(16, 8))}
    proto = onnx.parser.parse_model(f"""
    <ir_version: 6, opset_import: ["" : {opset}]>
    g (int64[n, s] ids) => (float[n, s, 8] y)
    {{ rows = Gather(table, ids)  r = Relu(rows)  y = MatMul(r, w) }}
    """)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()
    )
    onnx.save(proto, tmp_path / "m.onnx")
    (tmp_path / "q").mkdir()
    described = graph.describe(tmp_path / "m.onnx")
    made = int8_dynamic.apply(described, None, U8S8, {}, tmp_path / "q").model.path
    stale = changed(made, tmp_path, scaled("table_scale", 3))
    found = explain(stale, tmp_path / "m.onnx", FEEDS)
    assert found.untold == ()
    assert (found.suspects[0].value, found.suspects[0].kind) == ("rows", "wrong or stale scale")
