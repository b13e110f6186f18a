"""Outputs are told apart by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from accel.explaining import running
from accel.questions.explain import explain
from accel.values import Model
from tests.explaining.planted import changed


def test_outputs_may_stand_in_another_order(
    int8: Path, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """Each is compared with the reference's of its name: the error is the same, and so are its parts."""
    port = onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, ["batch", 32, 1, 1])

    def first(proto: Any) -> None:
        proto.graph.output.insert(0, port)

    def last(proto: Any) -> None:
        proto.graph.output.append(port)

    reference = changed(model.path, tmp_path, first).rename(tmp_path / "m.onnx")
    alike = changed(int8, tmp_path, first).rename(tmp_path / "alike.onnx")
    turned = changed(int8, tmp_path, last)
    assert explain(turned, reference, feeds) == explain(alike, reference, feeds)
    y, mean = running.outputs(onnx.load(turned), feeds, ["y", "mean"])[0]
    assert (y.ndim, mean.ndim) == (2, 4)
