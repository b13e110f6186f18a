"""ONNX Runtime on the processor, as a service has it for months."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import onnx
import pytest

from accel import graph, testing
from accel.engines import onnxruntime_cpu, reference


@pytest.mark.parametrize("engine", [onnxruntime_cpu, reference])
@pytest.mark.parametrize("fixed", [False, True])
def test_nothing_is_kept_of_each_new_shape(engine: object, fixed: bool, tmp_path: Path) -> None:
    """Memory plans of open axes would grow without end; one of fixed axes is one."""
    model = testing.mlp(tmp_path / "mlp.onnx")
    if fixed:
        proto = onnx.load(model.path)
        for port in (*proto.graph.input, *proto.graph.output):
            port.type.tensor_type.shape.dim[0].dim_value = 2
        onnx.save(proto, model.path)
        model = graph.describe(model.path)
    with closing(engine.load(testing.plan(model))) as session:  # type: ignore[attr-defined]
        assert session._inner.get_session_options().enable_mem_pattern == fixed
