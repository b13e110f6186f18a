"""Two hundred candidates take no more memory than twenty; a clock that jumps back breaks nothing.

The engine's part is a fake, named as such: each candidate "builds" the same graph and "answers" with a
quarter of a megabyte. What the search keeps of it, the checks, the scores and the store are real.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel import arrays, artefacts, floors, scoring, stages, store, testing, trials
from accel.constraints import Constraints
from accel.job import Job
from accel.measure import screening
from accel.protocols import Quantized
from accel.steps import check as check_step
from accel.steps import evaluate as evaluate_step
from accel.store import Step
from accel.target import load
from accel.values import Candidate, Feed, Measurement, Model, Plan, Workload

ANSWERS = 16  # feeds, each answered with 4,096 floats: a quarter of a megabyte
FEW, MANY = 20, 200
ALLOWED_BYTES = 8 << 20  # for 180 more rows of the table; their answers alone are 47 MB


def fake_outputs(plan: Plan, feeds: Sequence[Feed], out: Path, **_: Any) -> Path:
    """A fake engine's answers, the same for everybody."""
    answers = [{"y": np.full((1, 4096), i, np.float32)} for i in range(ANSWERS)]
    arrays.save(out / "outputs.npz", answers)
    return out / "outputs.npz"


def fake_timing(plan: Plan, requests: Any, out: Path, **_: Any) -> Measurement:
    """A fake clock's samples."""
    rows = np.arange(100)
    columns = {"request": rows * 0, "epoch": rows * 0, "round": rows}
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "samples.npz", seconds=np.full(100, 1e-3), **columns)
    return Measurement("quick", out / "samples.npz", ("all",), (1.0,), 0.1, 0.01, 1, 1, 0)


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Job, Model]:
    """A job whose children are fakes, and its graph."""
    model = testing.mlp(tmp_path / "m.onnx")
    feed = testing.request(model).inputs
    samples = [(feed, i) for i in range(ANSWERS)]
    problem = Workload(
        str(tmp_path / "w.py"), "w", "d", model=lambda: None, inputs=lambda: feed,
        samples=lambda _: samples, row=lambda outputs, label: float(outputs["y"][0, 0] == label),
        metric=lambda rows: 100 * float(rows.mean()),
    )  # fmt: skip
    requests = (testing.request(model),)
    names = ("source", "weights", "example", "requests", "search")
    digests = {**dict.fromkeys(names, "d"), "calibration": None, "certify": None}
    made = Job(problem, load("cpu-local"), requests, None, digests, {}, "class", tmp_path / "work")

    def build(_: Job, model: Model, engine: str, options: Mapping[str, Any]) -> Step[Plan]:
        return Step(Plan(engine, model, model.path, options), tmp_path, False, 0.0)

    monkeypatch.setattr(artefacts, "made", lambda *_: Quantized(model, {}))
    monkeypatch.setattr(trials, "build", build)
    monkeypatch.setattr(check_step, "outputs", fake_outputs)
    monkeypatch.setattr(evaluate_step, "outputs", fake_outputs)
    monkeypatch.setattr(screening, "quick", fake_timing)
    monkeypatch.setattr(floors, "floor_s", lambda *_: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # what it is for is not asked here
    return made, model


def search(run: Job, model: Model, count: int) -> tuple[Candidate, ...]:
    """Tried, checked, screened and scored."""
    yardstick = Plan("reference", model, model.path, {"threads": 1})
    asked = [
        Candidate(f"c{i}", "onnx", "fp32", "fake", options={"threads": 1, "i": i})
        for i in range(count)
    ]
    engine: Any = None
    table = stages._try(run, {"onnx": model}, {"fake": engine}, asked, yardstick, stages.quiet)
    return scoring.score(run, table, Constraints(), yardstick, stages.quiet)


def resident(word: str) -> int:
    """Bytes: VmRSS now, VmHWM at the most."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(x.split()[1]) * 1024 for x in text.splitlines() if x.startswith(word))


def _searched(run: Job, model: Model, count: int, told: Any) -> None:
    before = resident("VmRSS")
    table = search(run, model, count)
    assert [c.status for c in table] == ["built"] * count
    assert all(c.score is not None for c in table)
    told.put(resident("VmHWM") - before)


def peak_bytes(run: Job, model: Model, count: int) -> int:
    """What a search takes on top of what was there: in a process of its own, whose peak begins anew."""
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    process = context.Process(target=_searched, args=(run, model, count, told))
    process.start()
    process.join()
    assert process.exitcode == 0
    found: int = told.get()
    return found


@pytest.mark.slow
def test_memory_does_not_grow_with_candidates(faked: tuple[Job, Model]) -> None:
    """Answers and samples stay on disk: what a candidate leaves in memory is its row."""
    few, many = (peak_bytes(*faked, count) for count in (FEW, MANY))
    print(f"{FEW} candidates: {few / 1e6:.1f} MB at the peak, {MANY}: {many / 1e6:.1f} MB")
    assert many - few < ALLOWED_BYTES
    answered = MANY * ANSWERS * 4096 * 4
    assert many < answered / 2


def test_a_clock_that_jumps_back_breaks_nothing(
    faked: tuple[Job, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back at every look: the same table as ever, and the rerun finds each step."""
    clock = itertools.count(2e9, -3600.0)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    first = search(*faked, 5)
    again = search(*faked, 5)
    assert first == again
    made = [p for p in (faked[0].work / "store").glob("*-*") if p.is_dir()]
    assert {store.record(p)["key"]["verb"] for p in made} >= {"check", "screen", "evaluate"}


def test_nothing_waits_by_a_clock_that_can_jump() -> None:
    """Limits and budgets hang on the monotonic clock: time.time() is read by `accel cache` alone, for ages."""
    root = Path(artefacts.__file__).parent
    reads = [p.name for p in root.rglob("*.py") if "time.time()" in p.read_text(encoding="utf-8")]
    assert reads == ["cli_cache.py"]
