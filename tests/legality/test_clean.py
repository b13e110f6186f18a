"""Graphs that build everywhere, small and whole, and opsets that are converted for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from accel import legality, testing
from tests.legality.building import target

DATA = os.environ.get("ACCEL_DATA")
VERSIONS = ("10.3", "10.15", "11.0", "11.5", "")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("engine", ["tensorrt", "onnxruntime_cuda", "openvino", "onnxruntime_cpu"])
def test_clean_graphs_give_nothing(tmp_path: Path, version: str, engine: str) -> None:
    """The graphs that all other tests use build everywhere, once requests tell their sizes."""
    board = target(version, engine=engine, memory_bytes=8 << 30)
    for make in (testing.mlp, testing.convnet):
        made = make(tmp_path / "m.onnx")
        requests = [testing.request(made, batch=batch) for batch in (1, 4)]
        assert legality.check(made.path, board, requests) == ()
    made = testing.attention(tmp_path / "a.onnx")
    requests = [testing.tokens(batch=b, length=n) for b, n in ((1, 5), (2, 9))]
    assert legality.check(made.path, board, requests) == ()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """ResNet-20 as torch exports it, and its requests."""
    if not DATA:
        pytest.skip("ACCEL_DATA is not set: the tiny graphs above stand in for ResNet-20")
    pytest.importorskip("torch", reason="exports ResNet-20; instead: the tiny graphs above")
    from accel import workload
    from accel.steps import export

    problem = workload.load("examples/resnet20.py")
    made = export.export(problem, "torch_export", tmp_path_factory.mktemp("network"))
    return made.path, workload.requests(problem)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_network_gives_nothing(network: Any, version: str, tmp_path: Path) -> None:
    """Its opset, 23, is in the list of 10.15; for 10.3 it is unknown, and converted by the fix."""
    path, requests = network
    found = [f for f in legality.check(path, target(version), requests) if f.level != "note"]
    assert {(f.rule, f.level) for f in found} == (
        {("opset", "unknown")} if version == "10.3" else set()
    )
    if found:
        assert legality.fix(path, target(version), tmp_path / "fixed.onnx")
        left = legality.check(tmp_path / "fixed.onnx", target(version), requests)
        assert {f.level for f in left} <= {"note"}, left
        answers = [_run(p, requests[0].inputs) for p in (path, tmp_path / "fixed.onnx")]
        np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-5)


def _run(path: Path, feed: Any) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, dict(feed))[0]


def test_an_opset_is_converted_down_with_the_same_outputs(tmp_path: Path) -> None:
    """Convolutions, norms and reductions of opset 22 for a TensorRT whose list ends at 20."""
    made = testing.convnet(tmp_path / "m.onnx")
    raised = onnx.version_converter.convert_version(onnx.load(made.path), 22)
    onnx.save(raised, made.path)
    out = tmp_path / "out.onnx"
    assert legality.fix(made.path, target("10.3"), out) == ("opset 22 converted to 20",)
    feed = testing.request(made, batch=3).inputs
    np.testing.assert_allclose(_run(out, feed), _run(made.path, feed), rtol=1e-6, atol=1e-6)
