"""The scenarios: what is scheduled, in which order it is served, and what a latency is made of.

Nothing here depends on how long a call takes: what is asserted holds for any times.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel import testing
from accel.errors import CandidateBroken, MissingExtra
from accel.measure import arrivals, loadgen, scenarios, serving
from accel.measure.instrument import Arm
from accel.measure.scenarios import Load, Run
from accel.measure.worker import Worker
from accel.report import scenario
from accel.values import Model, Refusal

BRIEF = {"seconds": 0.3, "warmup_calls": 2}
SUMMARY = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : Server
Mode     : PerformanceOnly
Completed samples per second    : 188.58
Result is : INVALID
  Performance constraints satisfied : Yes
  Min duration satisfied : NO
  Min queries satisfied : Yes
  Early stopping satisfied: NO
Early Stopping Result:
 * Early stopping 99.0th percentile estimate: 2354747
Min latency (ns)                : 1008832
50.00 percentile latency (ns)   : 1130089
90.00 percentile latency (ns)   : 1566407
95.00 percentile latency (ns)   : 1864535
99.00 percentile latency (ns)   : 2154747
99.90 percentile latency (ns)   : 2364760
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return testing.mlp(tmp_path_factory.mktemp("model") / "mlp.onnx")


@pytest.fixture
def serve(model: Model, tmp_path: Path) -> Callable[..., Run]:
    """serve(load) -> a run of the tiny model in a process of its own."""

    def one(load: Load, **words: Any) -> Run:
        arms = [Arm("tiny", testing.plan(model))]
        requests = [testing.request(model, batch=n, weight=0.5) for n in (1, 2)]
        place = scenarios.places(arms, requests, tmp_path / "runs")[0]
        return scenarios.run(arms[0], place, load, 0, **words)

    return one


@pytest.fixture
def own_interrupt() -> Iterator[None]:
    """What takes SIGINT here gives it back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def spin(seconds: float) -> Callable[[], None]:
    """A call that takes so long at least."""

    def call() -> None:
        end = time.perf_counter_ns() + int(seconds * 1e9)
        while time.perf_counter_ns() < end:
            pass

    return call


def loaded(path: Path) -> dict[str, Any]:
    with np.load(path) as found:
        return dict(found)


def one_at_a_time(data: dict[str, Any]) -> None:
    """In order, none before it is due, none before the one ahead of it has ended."""
    assert (data["started_ns"] >= data["scheduled_ns"]).all()
    assert (data["ended_ns"] > data["started_ns"]).all()
    assert (data["started_ns"][1:] >= data["ended_ns"][:-1]).all()


@pytest.mark.alone
@pytest.mark.parametrize(("scenario", "samples"), [("SingleStream", 1), ("MultiStream", 8)])
def test_a_closed_loop_sends_a_query_when_the_last_has_ended(
    serve: Callable[..., Run], scenario: Any, samples: int
) -> None:
    """A latency is the service alone; a query has as many samples as were asked, by weight."""
    data = scenarios.columns(serve(Load(scenario, **BRIEF)))
    one_at_a_time(data)
    assert (data["scheduled_ns"] == data["started_ns"]).all()
    assert data["request"].shape == (len(data["ended_ns"]), samples)
    assert set(np.unique(data["request"])) == {0, 1}
    assert scenarios.latencies_s(data).sum() <= data["ended_ns"][-1] * 1e-9


@pytest.mark.alone
def test_server_takes_latency_from_the_scheduled_arrival(serve: Callable[..., Run]) -> None:
    """The schedule is the seed's; a latency is waiting and service, so never less than service."""
    data = scenarios.columns(serve(Load("Server", qps=500, seed=5, **BRIEF)))
    one_at_a_time(data)
    assert data["scheduled_ns"].tolist() == arrivals.poisson_ns(500, 0.3, 5).tolist()
    service_s = (data["ended_ns"] - data["started_ns"]) * 1e-9
    waited_s = (data["started_ns"] - data["scheduled_ns"]) * 1e-9
    assert scenarios.latencies_s(data) == pytest.approx(waited_s + service_s, abs=1e-9)
    late = scenarios.lateness_s(data)
    assert (late >= 0).all()
    assert (late <= waited_s + 1e-9).all()


@pytest.mark.alone
def test_offline_has_all_queries_at_once(serve: Callable[..., Run]) -> None:
    """All are scheduled at the start: the last latency is the whole run."""
    data = scenarios.columns(serve(Load("Offline", **BRIEF)))
    one_at_a_time(data)
    assert not data["scheduled_ns"].any()
    latencies_s = scenarios.latencies_s(data)
    assert (np.diff(latencies_s) > 0).all()
    assert latencies_s[-1] == data["ended_ns"][-1] * 1e-9


def test_a_queue_beyond_capacity_grows_with_every_query() -> None:
    """Three arrivals in the time of one: each waits longer than the one before it."""
    times, call = np.zeros((2, 60), np.int64), spin(0.003)
    start = time.perf_counter_ns()
    due = [start + k * 1_000_000 for k in range(60)]
    assert serving.open_loop([[call]] * 60, due, 60.0, times, lambda: False) == 60
    assert (np.diff(times[0] - np.asarray(due)) > 0).all()


def test_what_is_never_served_is_infinite(tmp_path: Path) -> None:
    """Past the limit nothing more is begun; the queries left over count as infinitely late."""
    plan, out = tmp_path / "plan.npz", tmp_path / "out.npz"
    np.savez(plan, scheduled_ns=np.zeros(1000, np.int64), picks=np.zeros((1000, 1), np.int64))
    told = serving.serve([spin(0.01)], str(plan), str(out), 0.1, 0.1, 0.0)
    data = loaded(out)
    latencies_s = scenarios.latencies_s(data)
    assert {len(column) for column in data.values()} == {1000}
    assert 1 <= told["served"] <= 11
    assert np.isfinite(latencies_s).sum() == told["served"]
    assert np.isinf(latencies_s[told["served"] :]).all()
    assert len(scenarios.lateness_s(data)) == told["served"]


def test_a_run_that_cannot_keep_the_bound_ends_early() -> None:
    """More than one in a hundred took longer: the rest is not served."""
    times, due = np.zeros((2, 500), np.int64), [time.perf_counter_ns()] * 500
    queries = [[spin(0.001)]] * 500
    served = serving.open_loop(queries, due, 60.0, times, lambda: False, 1, 5)
    assert served == 6


@pytest.mark.usefixtures("own_interrupt")
@pytest.mark.parametrize("scheduled", [0, 200])
def test_an_interrupt_keeps_what_was_served(tmp_path: Path, scheduled: int) -> None:
    """SIGINT in the twelfth call: that query is the last one, and the file is whole."""
    turn = iter(range(1000))

    def call() -> None:
        if next(turn) == 11:
            signal.raise_signal(signal.SIGINT)

    plan, out = tmp_path / "plan.npz", tmp_path / "out.npz"
    np.savez(plan, scheduled_ns=np.zeros(scheduled, np.int64), picks=np.zeros((5, 1), np.int64) if not scheduled else np.zeros((scheduled, 1), np.int64))  # fmt: skip
    told = serving.serve([call], str(plan), str(out), 60.0, 60.0, 0.0)
    assert (told["served"], told["interrupted"]) == (12, True)
    data = loaded(out)
    assert len(data["ended_ns"]) == (scheduled or 12)
    assert (data["ended_ns"] >= 0).sum() == 12


@pytest.mark.alone
def test_an_interrupted_parent_leaves_the_samples_so_far(
    serve: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a run of ten minutes: it ends at once, with its file in place."""
    real, limit_s = Worker.ask, 2.0

    def ask(self: Worker, verb: str, *rest: Any, **words: Any) -> Any:
        if words.get("function", "").endswith("serving:serve"):
            signal.setitimer(signal.ITIMER_REAL, limit_s)
        return real(self, verb, *rest, **words)

    def come(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "ask", ask)
    before = signal.signal(signal.SIGALRM, come)
    try:
        with pytest.raises(KeyboardInterrupt):
            serve(Load("Server", seconds=600, qps=20))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    data = loaded(tmp_path / "runs" / "00-tiny.Server.0.npz")
    assert 0 < (data["ended_ns"] >= 0).sum() < len(data["ended_ns"])


@pytest.mark.alone
def test_arms_are_interleaved_by_coin_and_see_the_same_arrivals(
    model: Model, tmp_path: Path
) -> None:
    """An epoch has each arm once, in an order from the seed; a broken arm is lost alone."""
    broken = Model(tmp_path / "no.onnx", "no", model.inputs, model.outputs)
    arms = [Arm(name, testing.plan(m)) for name, m in (("a", model), ("b", model), ("no", broken))]
    places = scenarios.places(arms, [testing.request(model)], tmp_path / "out")
    said: list[str] = []
    load = Load("Server", qps=200, **BRIEF)
    found = scenarios.compare(arms, places, [load] * 3, epochs=3, seed=1, progress=said.append)
    one, two, three = found
    assert isinstance(three, Refusal)
    assert three.what == "no"
    assert not isinstance(one, Refusal)
    assert not isinstance(two, Refusal)
    for a, b in zip(one, two, strict=True):
        times = [scenarios.columns(run)["scheduled_ns"].tolist() for run in (a, b)]
        assert times[0] == times[1]
    assert len({tuple(scenarios.columns(run)["scheduled_ns"][:5]) for run in one}) == 3
    order = [line.split(": ")[1].split(",")[0] for line in said if not line.split(": ")[1].startswith("no")]  # fmt: skip
    pairs = [tuple(order[i : i + 2]) for i in range(0, 6, 2)]
    assert all(set(pair) == {"a", "b"} for pair in pairs)
    assert len(set(pairs)) == 2


def test_lateness_is_the_loops_own() -> None:
    """From when a query was due and the server free, to its start: by hand."""
    names = ("scheduled_ns", "started_ns", "ended_ns")
    rows = [(0, 2, 10), (5, 13, 20), (50, 51, 60), (61, -1, -1)]
    data = {name: np.asarray([row[i] for row in rows]) for i, name in enumerate(names)}
    assert (scenarios.lateness_s(data) * 1e9).round(6).tolist() == [2, 3, 1]


def test_loadgens_summary_is_read(tmp_path: Path) -> None:
    """Its verdict with the conditions that failed, its percentiles and its rate; none: an error."""
    (tmp_path / loadgen.SUMMARY).write_text(SUMMARY)
    told = loadgen.read(tmp_path, kept=True)
    assert (told.valid, told.log) == (False, tmp_path)
    assert told.reasons == ("Min duration", "Early stopping")
    assert told.percentiles_s == pytest.approx(
        {"p50": 1130089e-9, "p90": 1566407e-9, "p99": 2154747e-9, "p99.9": 2364760e-9}
    )
    assert (told.samples_per_s, told.early_stopping_s) == (188.58, pytest.approx(2354747e-9))
    with pytest.raises(CandidateBroken, match="LoadGen left no result"):
        loadgen.read(tmp_path / "empty", kept=True)


def test_loadgen_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that installs it is in the message."""
    monkeypatch.setitem(__import__("sys").modules, "mlperf_loadgen", None)
    with pytest.raises(MissingExtra, match=r"pip install 'accel-inference\[loadgen\]'"):
        loadgen.require()


@pytest.mark.alone
@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server", "Offline"])
def test_loadgen_runs_the_same_scenario(model: Model, tmp_path: Path, scenario: Any) -> None:
    """The real one, in a worker: a verdict, and percentiles in order."""
    pytest.importorskip(
        "mlperf_loadgen",
        reason="pip install 'accel-inference[loadgen]'; its summary is read in the test above",
    )
    arm, load = Arm("tiny", testing.plan(model)), Load(scenario, **BRIEF)
    if scenario == "Server":
        load = replace(load, qps=500, bound_s=1.0)
    place = scenarios.places([arm], [testing.request(model)], tmp_path)[0]
    told = scenarios.through_loadgen(arm, place, load, kept=True)
    assert isinstance(told, loadgen.Verdict), told
    values = list(told.percentiles_s.values())
    assert len(values) == 4
    assert values == sorted(values)
    assert (told.samples_per_s is not None) == (scenario in ("Server", "Offline"))
    assert told.valid or told.reasons


def test_a_load_that_ends_early_is_told() -> None:
    """Once as many queries are served as are kept, whatever the time that was asked for."""
    asked = Load("SingleStream", 60.0)
    full, brief = ({"request": np.zeros((n, 1), np.int8)} for n in (serving.CAPACITY, 9))
    assert "before its 60 s" in scenario._cut(asked, [brief, full])[0]
    assert scenario._cut(asked, [brief]) == ()
