"""A candidate's floor: its requests' work on the target's rates, weighted as its objective is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from accel import finals, floors, testing
from accel.job import Job
from accel.measure import ceiling
from accel.measure.ceiling import Ceilings
from accel.report import summary, table
from accel.values import Candidate, Measurement, Target, Workload

# One MatMul of 8 x 8 with its Relu, one of 8 x 4, 64 + 32 weights of 4 bytes:
# 2 x 64 + 8 + 2 x 32 = 200 operations a row; 384 bytes of weights, 32 in and 16 out a row.
RATES = {"float32_ops_per_s": 100.0, "bytes_per_s": 1000.0}
TOLD = Target("told", "", ("onnxruntime_cpu",), local=False, peaks=RATES)
PLAIN = Candidate("c", "onnx", "fp32", "onnxruntime_cpu")


def job(work: Path, target: Target = TOLD) -> Job:
    """One row at 3 of 4 requests, ten rows at the fourth."""
    model = testing.mlp(work / "m.onnx")
    requests = tuple(testing.request(model, batch=b, weight=w) for b, w in ((1, 0.75), (10, 0.25)))
    workload = Workload("w.py", "w", "digest", model=lambda: None)
    return Job(workload, target, requests, None, {"requests": "r"}, {}, "class", work)


def floor_s(work: Path, target: Target = TOLD, **options: object) -> float | None:
    """Of the MLP, with an engine's options."""
    plan = testing.plan(testing.mlp(work / "m.onnx"))
    candidate = dataclasses.replace(PLAIN, options=options)
    return floors.floor_s(job(work, target), candidate, plan)


def test_requests_are_weighted(tmp_path: Path) -> None:
    """0.75 x 200 / 100 + 0.25 x 2,000 / 100 seconds, both bound by compute."""
    assert floor_s(tmp_path) == pytest.approx(0.75 * 2 + 0.25 * 20)


def test_memory_bounds_where_arithmetic_is_quick(tmp_path: Path) -> None:
    """384 bytes of weights at each call, 48 a row for x and y."""
    target = dataclasses.replace(TOLD, peaks={**RATES, "float32_ops_per_s": 1e9})
    wanted_s = (0.75 * (384 + 48) + 0.25 * (384 + 480)) / 1000
    assert floor_s(tmp_path, target) == pytest.approx(wanted_s)


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"precision": "bf16"}, "bfloat16"),
        ({"precision": "f32"}, "float32"),
        ({"tf32": True}, "tf32"),
        ({"precision": "f32", "activations": "int8"}, "int8"),
        ({"threads": 2}, "float32"),
    ],
)
def test_the_type_that_an_engine_was_asked_for_counts(
    tmp_path: Path, options: dict[str, object], dtype: str
) -> None:
    """A hint turns float32 into what the engine then computes in, at that type's own rate."""
    target = dataclasses.replace(TOLD, peaks={f"{dtype}_ops_per_s": 100.0})
    assert floor_s(tmp_path, target, **options) == pytest.approx(6.5)


def test_no_rates_no_floor(tmp_path: Path) -> None:
    """A GPU whose profile tells no rate: None, not 0."""
    target = dataclasses.replace(TOLD, peaks={}, compute_capability="9.0")
    assert floor_s(tmp_path, target) is None


def test_this_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that resumes has the same rates: they are a stored step."""
    calls = []

    def fake(verb: str, words: dict[str, int], kind: type, **_: object) -> Ceilings:
        calls.append((verb, words))
        return Ceilings({"float32": 100.0}, ((1, 1000.0),))

    monkeypatch.setattr(floors.child, "call", fake)
    here = dataclasses.replace(TOLD, peaks={}, local=True, threads=2)
    assert floor_s(tmp_path, here) == floor_s(tmp_path, here) == pytest.approx(6.5)
    assert calls == [(ceiling.VERB, {"threads": 2})]
    assert floors.source(job(tmp_path, here))["source"] == ceiling.MEASURED
    assert floors.source(job(tmp_path))["source"] == ceiling.GIVEN


def test_a_baseline_gets_its_floor_when_it_is_measured(tmp_path: Path) -> None:
    """Baselines are never screened: the floor comes with the measurement."""
    path, rounds = tmp_path / "samples.npz", np.arange(8)
    np.savez(path, request=rounds * 0, epoch=rounds * 0, round=rounds, seconds=0.0 * rounds + 20.0)
    found = Measurement("c", path, ("all",), (1.0,), 0.1, 0.01, 1, 1, 0)
    plan = testing.plan(testing.mlp(tmp_path / "m.onnx"))
    row = finals._with_measurement(job(tmp_path), dataclasses.replace(PLAIN, plan=plan), found)
    assert (row.floor_s, table.share(row)) == (pytest.approx(6.5), "32 %")


@pytest.mark.parametrize(
    ("floor", "screened", "measured", "said"),
    [
        (0.012, 0.2, 0.1, "12 %"),
        (0.0012, 0.1, None, "1.2 %"),
        (0.1, 0.1, None, "100 %"),
        (None, 0.1, 0.1, ""),
        (0.1, None, None, ""),
    ],
)
def test_the_share_in_the_table(
    floor: float | None, screened: float | None, measured: float | None, said: str
) -> None:
    """The floor over the time beside it: measured where there is one, else screened."""
    row = dataclasses.replace(PLAIN, floor_s=floor, screen_s=screened, objective_s=measured)
    assert table.row(row)[table.HEAD.index("roofline")] == said
    assert len(table.row(row)) == len(table.HEAD)
    assert "roofline" in summary.ROOFLINE
