"""What a worker does inside its process, in this one: a fake engine on a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from accel import arrays, catalog, manifest, testing
from accel.measure import process
from accel.measure.process import timed

LOAD_S, FIRST_S, CALL_S = 2.0, 8.0, 0.5  # exact in floats


class Fake:
    """An engine and its session at once; binding runs the model, as ONNX Runtime's does."""

    def __init__(self) -> None:
        self.now_s, self.ran = 0.0, 0

    def perf_counter(self) -> float:
        return self.now_s

    def load(self, _: Any) -> Fake:
        self.now_s += LOAD_S
        return self

    def __call__(self, _: Any) -> dict[str, Any]:
        self.now_s += CALL_S if self.ran else FIRST_S
        self.ran += 1
        return {}

    def bind(self, feed: Any) -> Callable[[], Any]:
        self(feed)
        return lambda: self(feed)


def loaded(monkeypatch: pytest.MonkeyPatch, folder: Path, batches: tuple[int, ...]) -> Any:
    """The answer to a load with these requests, and what the process then holds."""
    fake, state = Fake(), process._State()
    monkeypatch.setattr(catalog, "load", lambda *_: fake)
    monkeypatch.setattr(process, "time", SimpleNamespace(perf_counter=fake.perf_counter))
    model = testing.mlp(folder / "m.onnx")
    arrays.save(folder / "r.npz", [testing.request(model, batch=n).inputs for n in batches])
    plan = manifest.dump(testing.plan(model, threads=0))
    return process.VERBS["load"](state, plan=plan, requests=str(folder / "r.npz")), state


def test_the_first_inference_is_the_cold_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What an engine does on first need is in the cold call, and no later run is."""
    answer, state = loaded(monkeypatch, tmp_path, (1, 2))
    assert answer == [LOAD_S, FIRST_S]
    assert len(state.calls) == 2


def test_without_a_request_nothing_is_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There is nothing to call it on."""
    answer, state = loaded(monkeypatch, tmp_path, ())
    assert answer == [LOAD_S, 0.0]
    assert state.calls == []


def test_what_is_slow_is_not_warmed_up_for_minutes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two calls of half a second: 11 passes take more than 10 s. (This process keeps its collector.)"""
    monkeypatch.setattr(process, "gc", SimpleNamespace(collect=int, freeze=int, disable=int))
    _, state = loaded(monkeypatch, tmp_path, (1, 2))
    assert process.VERBS["warm"](state, count=200) == 2 * CALL_S
    assert state.calls[0].__closure__[-1].cell_contents.ran == 3 + 2 * 11


def test_a_block_makes_the_calls_that_it_is_to_make_at_least() -> None:
    """However short its time, in whole passes; and never past its room."""
    ran: list[int] = []
    calls = [lambda i=i: ran.append(i) for i in range(3)]
    assert len(timed(calls, 0.0, np.zeros(90, np.int64), 30)) == 30
    assert len(timed(calls, 0.0, np.zeros(90, np.int64), 31)) == 33
    assert len(timed(calls, 0.0, np.zeros(31, np.int64), 60)) == 30
    assert ran == [0, 1, 2] * 31
