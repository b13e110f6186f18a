"""A TensorRT plan on a GPU: what the fakes of session_checks.py cannot show."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from accel import catalog, testing
from accel.engines import _tensorrt_cache as cache
from accel.measure import here
from accel.values import Target

ENGINE = catalog.load("engines", "tensorrt")
INSTEAD = "instead: test_session.py and test_build.py, over fakes"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """plan(**options) -> a small network, built here."""
    if importlib.util.find_spec("tensorrt") is None:
        pytest.skip(f"no tensorrt: pip install 'accel-inference[tensorrt]'; {INSTEAD}")
    if not here.gpus():
        pytest.skip(f"no NVIDIA GPU; {INSTEAD}")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "timings"))
    capability = here.gpus()[0].compute_capability
    this = Target("here", "this GPU", ("tensorrt",), True, compute_capability=capability)
    model = testing.mlp(tmp_path / "mlp.onnx")
    requests = [testing.request(model, batch=b) for b in (1, 4)]

    def make(**options: Any) -> Any:
        out = tmp_path / f"plan-{len(list(tmp_path.glob('plan-*')))}"
        out.mkdir()
        return ENGINE.build(model, this, options, requests, out)

    return make


def right(plan: Any, feed: Any) -> Any:
    session = onnxruntime.InferenceSession(plan.model.path, providers=["CPUExecutionProvider"])
    return session.run(["y"], feed)[0]


@pytest.mark.tensorrt
@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"cuda_graph": True}, {"cuda_graph": True, "profiles": 2}])
def test_a_plan_computes_what_its_graph_says(plan: Any, options: Any) -> None:
    """Shapes in turn, called and bound; where graphs were asked for, each was captured."""
    made = plan(**options)
    assert set(made.facts["session"]["cuda_graph"].values()) <= {"captured"}
    session = ENGINE.load(made)
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(size=(b, 8)).astype(np.float32)} for b in (1, 4, 2, 1)]
    calls = [session.bind(feed) for feed in feeds]
    for _ in range(2):
        for feed, call in zip(feeds, calls, strict=True):
            np.testing.assert_allclose(session(feed)["y"], right(made, feed), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(call()["y"], right(made, feed), rtol=1e-4, atol=1e-5)
    session.close()


@pytest.mark.tensorrt
@pytest.mark.gpu
@pytest.mark.parametrize("options", [{"strip_plan": True}, {"version_compatible": True}])
def test_plans_that_need_more_at_load(plan: Any, options: Any) -> None:
    """Weights from the graph beside it; a runtime of its own."""
    made = plan(**options)
    session = ENGINE.load(made)
    feed = {"x": np.ones((2, 8), np.float32)}
    np.testing.assert_allclose(session(feed)["y"], right(made, feed), rtol=1e-4, atol=1e-5)
    session.close()
