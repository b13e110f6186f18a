"""What goes in and what comes out: by name, and of this model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from accel.errors import UsageError
from accel.explaining import running
from accel.questions.explain import explain
from accel.values import Feed, Model
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


@pytest.mark.parametrize("wrong", [{}, {"x": np.zeros((2, 3, 4, 4), np.float32)}])
def test_calibration_data_of_another_model_is_refused_at_once(
    int8: Path, model: Model, feeds: Any, wrong: Feed
) -> None:
    """Before any part is tried: an input that is absent, or of another shape."""
    told: list[int] = []
    with pytest.raises(UsageError, match="calibration feed 1"):
        explain(int8, model.path, feeds, [feeds[0], wrong], lambda done, _: told.append(done))
    assert not told
