"""What the instrument itself costs: the timed loop against a bare one, and the clock.

Run by `make bench`; benchmarks/README.md says how to read it. Nothing is asserted on a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel import catalog, testing
from accel.measure.process import timed

CALLS, ROUNDS = 2_000, 50
READS = 100_000
LONG_S = 600.0  # no block ends by the clock here: CALLS is the room for its durations
Call = Callable[[], Any]


def bare(call: Call) -> float:
    """Seconds of CALLS calls, one clock reading before and one after all of them."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return time.perf_counter() - start


def by_accel(call: Call, out: Any) -> int:
    """The same number of calls in the loop that accel measures with, each timed by itself."""
    return len(timed([call], LONG_S, out))


@pytest.fixture(params=["nothing", "mlp in ONNX Runtime"])
def call(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Call]:
    """A function that does nothing, or one bound call of a tiny graph with one thread."""
    if request.param == "nothing":
        yield lambda: None
        return
    model = testing.mlp(tmp_path / "mlp.onnx")
    engine = catalog.load("engines", "onnxruntime_cpu")
    with closing(engine.load(testing.plan(model))) as session:
        yield session.bind(testing.request(model, batch=4).inputs)


@pytest.mark.benchmark(group=f"instrument: {CALLS} calls in accel's timed loop")
def test_added_per_call(benchmark: Any, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    """Both loops in turns on the same session; the difference of each pair, per call."""
    out = np.zeros(CALLS, np.int64)
    bare_s: list[float] = []
    recorded_ns: list[float] = []

    def before() -> None:
        recorded_ns.append(float(np.median(out)))  # of the round before this one
        bare_s.append(bare(call))

    found = benchmark.pedantic(by_accel, (call, out), setup=before, rounds=ROUNDS)
    assert found == CALLS
    recorded_ns.append(float(np.median(out)))
    added = 1e9 * (np.asarray(benchmark.stats.stats.data) - bare_s) / CALLS
    figures = {
        "bare loop, ns per call": 1e9 * float(np.median(bare_s)) / CALLS,
        "added by accel's loop, ns per call": float(np.median(added)),
        "recorded for one call, ns": float(np.median(recorded_ns[1:])),
    }
    low, high = np.quantile(added, [0.05, 0.95])
    note = f"; of {ROUNDS} pairs of loops, 90 % added {low:.0f} to {high:.0f} ns"
    _show(benchmark, capsys, figures, note)


@pytest.mark.benchmark(group=f"instrument: {READS} readings of the clock")
def test_clock(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Readings one after another, and the smallest step between two that differ."""
    seen = np.zeros(READS, np.int64)

    def readings() -> None:
        clock = time.perf_counter_ns
        for i in range(READS):
            seen[i] = clock()

    benchmark.pedantic(readings, rounds=10, warmup_rounds=1)
    steps = np.diff(seen)
    figures = {
        "resolution that the system states, ns": 1e9 * time.get_clock_info("perf_counter").resolution,
        "smallest step seen, ns": float(steps[steps > 0].min()),
        "median step of the loop, ns": float(np.median(steps)),
    }  # fmt: skip
    _show(benchmark, capsys, figures)


def _show(
    benchmark: Any, capsys: pytest.CaptureFixture[str], figures: dict[str, float], note: str = ""
) -> None:
    """On the terminal, and in the JSON that --benchmark-json writes."""
    benchmark.extra_info.update(figures)
    text = ", ".join(f"{name}: {value:.0f}" for name, value in figures.items())
    with capsys.disabled():
        print(f"\n{benchmark.name}: {text}{note}")
