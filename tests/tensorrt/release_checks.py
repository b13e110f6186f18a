"""A release whose winner is a TensorRT plan; test_packed.py runs this in a process of its own, under a fake
driver and a fake TensorRT. Packing, digests and the portable graph are the real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_world import World

from accel import arrays, catalog, release, starting, testing
from accel import target as targets
from accel.engines import _tensorrt_cache as cache
from accel.errors import EnvironmentProblem
from accel.measure import here
from accel.steps.pack import pack
from accel.values import Candidate, Certificate, Measurement, Model, Plan, Release, Verdict

H100 = dataclasses.replace(targets.load("h100"), gpu=None)
CERTIFICATE = Certificate(
    "certified", "accuracy", "pt", 91.0, 90.9, 0.1, 0.3, (-0.2, 0.4), 0.5, 100, "made up", "certify"
)


def candidate(folder: Path, engine: str, target: Any, model: Model, options: Any) -> Candidate:
    """As the search leaves it, with samples that nobody took."""
    out = folder / engine
    out.mkdir()
    requests = [testing.request(model, batch=b) for b in (1, 4)]
    plan: Plan = catalog.load("engines", engine).build(model, target, options, requests, out)
    samples, column = folder / f"{engine}.npz", np.arange(3)
    arrays.save(
        samples,
        [{"request": column * 0, "epoch": column, "round": column, "seconds": 1.0 + column}],
    )
    told = Measurement(engine, samples, ("only",), (1.0,), 0.1, 0.01, 1000, 1, 0)
    return Candidate(
        engine, "onnx", "fp32", engine, status="measured", plan=plan, options=options,
        measurement=told, objective_s=1.0,
    )  # fmt: skip


@pytest.fixture
def made(
    fake_trt: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Release]:
    """made(**options) -> a release whose winner is built by TensorRT with these options."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "timings"))

    def make(**options: Any) -> Release:
        model = testing.mlp(tmp_path / "mlp.onnx")
        cpu = targets.load("cpu-local")
        plain = candidate(tmp_path, "onnxruntime_cpu", cpu, model, {"threads": 1})
        winner = candidate(tmp_path, "tensorrt", H100, model, options)
        given = [dict(testing.request(model, batch=b).inputs) for b in (1, 3)]
        with_plain = starting.start(plain)
        wanted = [with_plain(feed) for feed in given]
        with_plain.close()
        rows = tmp_path / "rows.npy"
        np.save(rows, np.ones(5))
        return pack(
            winner, plain, [plain], [winner, plain], CERTIFICATE, Verdict("pass"), (given, wanted),
            [testing.request(model, batch=1)], {c.name: rows for c in (winner, plain)},
            "accel optimize m.onnx", {"target": "h100", "versions": {}}, tmp_path / "release",
        )  # fmt: skip

    return make


def answers(loaded: Any) -> Any:
    """What it says to ones."""
    with loaded:
        return loaded({"x": np.ones((2, 8), np.float32)})["y"]


def test_a_release_ships_engine_layers_timings_and_the_portable_graph(
    made: Callable[..., Release], fake_trt: World
) -> None:
    """It loads where it was packed, and both answer alike."""
    path = made().path
    names = {p.name for p in (path / "engine").iterdir()}
    assert names == {
        f"mlp.sm90.fake.trt{fake_trt.version}.cuda13.0.engine", "layers.json", "timing.cache",
    }  # fmt: skip
    assert (path / "model.onnx").is_file()
    found, portable = answers(release.load(path)), answers(release.load(path, portable=True))
    np.testing.assert_allclose(found, portable, rtol=1e-5)


def test_on_another_gpu_only_the_portable_graph_runs(
    made: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is of another class; the way out is told."""
    path = made().path
    wanted = answers(release.load(path, portable=True))
    first = here.gpus()[0]
    other = dataclasses.replace(first, name="another", compute_capability="8.7")
    monkeypatch.setattr(here, "gpus", lambda: (other,))
    with pytest.raises(EnvironmentProblem, match="portable=True"):
        release.load(path)
    np.testing.assert_array_equal(answers(release.load(path, portable=True)), wanted)


def test_under_another_tensorrt_only_the_portable_graph_runs(
    made: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last number of its version, unless the plan was built to be compatible."""
    import tensorrt as trt

    path = made().path
    monkeypatch.setattr(trt, "__version__", "11.4.9.9")
    with pytest.raises(EnvironmentProblem, match=r"to the last number.*portable=True"):
        release.load(path)
    assert answers(release.load(path, portable=True)).shape == (2, 4)


def test_a_stripped_release_gets_its_weights_back(made: Callable[..., Release]) -> None:
    """From the graph in the plan's folder."""
    path = made(strip_plan=True).path
    assert (path / "engine" / "model.onnx").is_file()
    found, portable = answers(release.load(path)), answers(release.load(path, portable=True))
    np.testing.assert_allclose(found, portable, rtol=1e-5)
