"""A worker's process: what surrounds the timed calls, and how its troubles come back."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from accel import arrays, testing
from accel.errors import CandidateBroken, EnvironmentProblem, UsageError
from accel.measure import child
from accel.measure import worker as worker_module
from accel.measure.process import CAPACITY, timed
from accel.measure.worker import Worker

pytestmark = pytest.mark.alone
INSIDE = """
import gc
import numpy as np
from accel.measure import process

def story(warmups: int) -> dict:
    seen = []
    calls = [lambda i=i: seen.append((i, gc.isenabled())) for i in (0, 1)]
    state = process._State(calls=calls, out=np.zeros(process.CAPACITY, np.int64))
    assert gc.isenabled()
    process.VERBS["warm"](state, count=warmups)
    warm, frozen = len(seen), gc.get_freeze_count()
    seen.clear()
    found = process.VERBS["block"](state, indexes=[0, 1], seconds=0.001, awake=False)
    timed = seen[-len(found["durations_ns"]):]
    return {"warm": warm, "frozen": frozen, "collecting": any(on for _, on in seen),
            "timed": [i for i, _ in timed], "dropped": len(seen) - len(timed)}
"""


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a fresh process saw around its calls."""
    (tmp_path / "accel_inside.py").write_text(INSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    words = {"log": tmp_path / "log", "timeout_s": 60.0}
    return child.call("accel_inside:story", {"warmups": 3}, dict, **words)


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    with Worker("arm", tmp_path / "log") as made:
        yield made


def loaded(worker: Worker, folder: Path, **options: Any) -> Worker:
    model = testing.mlp(folder / "m.onnx")
    arrays.save(folder / "requests.npz", [testing.request(model, batch=n).inputs for n in (1, 2)])
    worker.load(testing.plan(model, **options), folder / "requests.npz")
    return worker


def test_no_garbage_is_collected_inside_a_block(inside: dict[str, Any]) -> None:
    """After the warm-up the collector is off, and what lives is frozen out of its sight."""
    assert inside["collecting"] is False
    assert inside["frozen"] > 0


def test_warm_up_is_whole_passes_over_all_requests(inside: dict[str, Any]) -> None:
    """Three passes over two requests are six calls, and none of them is a sample."""
    assert inside["warm"] == 6


def test_calls_right_after_waking_are_not_samples(inside: dict[str, Any]) -> None:
    """At least three calls are dropped first; then come whole passes, in order."""
    assert inside["dropped"] >= 3
    count = len(inside["timed"])
    assert count >= 2
    assert inside["timed"] == [0, 1] * (count // 2)


def test_timed_runs_one_whole_pass_at_least_and_never_past_its_room() -> None:
    """With no time it is one pass; with no end of time it stops where the array is full."""
    ran: list[int] = []
    calls = [lambda i=i: ran.append(i) for i in range(3)]
    assert len(timed(calls, 0.0, np.zeros(30, np.int64))) == 3
    assert len(timed(calls, 60.0, np.zeros(31, np.int64))) == 30
    assert ran == [0, 1, 2] * 11
    assert CAPACITY * 8 <= 4 << 20


def test_a_block_has_a_duration_a_call(worker: Worker, tmp_path: Path) -> None:
    """Whole passes over the asked requests, each with a positive duration."""
    found = loaded(worker, tmp_path).block([1, 0], 0.002)
    assert len(found.durations_ns) % 2 == 0
    assert min(found.durations_ns) > 0
    assert list(found.indexes) == [1, 0]


def test_a_plan_of_one_thread_stays_on_one_core(worker: Worker, tmp_path: Path) -> None:
    """It is kept on the last of the allowed cores; a plan of all threads may use them all."""
    loaded(worker, tmp_path, threads=1)
    assert psutil.Process(worker.pid).cpu_affinity() == [max(os.sched_getaffinity(0))]
    with Worker("wide", tmp_path / "wide.log") as other:
        loaded(other, tmp_path / "wide", threads=len(os.sched_getaffinity(0)))
        assert set(psutil.Process(other.pid).cpu_affinity()) == os.sched_getaffinity(0)


def test_a_stopped_worker_sleeps_and_wakes(worker: Worker, tmp_path: Path) -> None:
    """Between its turns the process does not run; its answers are the same afterwards."""
    loaded(worker, tmp_path).stop()
    process = psutil.Process(worker.pid)
    end = time.monotonic() + 10.0  # a busy machine takes its time to deliver a signal
    while process.status() != psutil.STATUS_STOPPED and time.monotonic() < end:
        time.sleep(0.01)
    assert process.status() == psutil.STATUS_STOPPED
    worker.resume()
    assert worker.block([0], 0.0).durations_ns


def test_a_crash_names_the_order_the_signal_and_the_log(worker: Worker, tmp_path: Path) -> None:
    """A worker that died is broken, now and at every later order."""
    loaded(worker, tmp_path)
    os.kill(worker.pid, signal.SIGSEGV)
    for _ in range(2):
        with pytest.raises(CandidateBroken, match=r"arm: the worker died during .*SIGSEGV") as one:
            worker.ask("memory")
        assert str(tmp_path / "log") in str(one.value)


def test_a_worker_that_hangs_up_and_stays_is_ended(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever closed its end of the line is not waited for without limit."""
    monkeypatch.setattr(worker_module, "DEATH_S", 0.1)
    pid = worker.pid
    worker.stop()
    os.close(worker._answers)
    worker._answers, line = os.pipe()
    os.close(line)
    with pytest.raises(CandidateBroken, match=r"the worker died during memory .*SIGKILL"):
        worker.ask("memory")
    assert not psutil.pid_exists(pid)


def test_a_worker_that_passes_its_limit_is_killed(worker: Worker) -> None:
    """It says killed, and it is."""
    pid = worker.pid
    worker.stop()
    with pytest.raises(CandidateBroken, match=r"memory did not end within 0.5 s; .* was killed"):
        worker.ask("memory", 0.5)
    assert not psutil.pid_exists(pid)


def test_ending_a_worker_twice_does_not_touch_the_next_one(tmp_path: Path) -> None:
    """What the first held is free for the second: its files are not closed under it."""
    first = Worker("first", tmp_path / "first.log")
    first.close()
    with Worker("second", tmp_path / "second.log") as second:
        first.close()
        assert second.ask("memory") > 1 << 20


def test_an_error_inside_keeps_the_worker(worker: Worker, tmp_path: Path) -> None:
    """A refused plan comes back as an error, and the next order is answered."""
    with pytest.raises(UsageError, match="No engine named 'nothing'"):
        worker.load(testing.plan(testing.mlp(tmp_path / "x.onnx"), "nothing"), tmp_path / "r.npz")
    assert worker.ask("memory") > 1 << 20


def test_outputs_of_a_run_are_the_graphs(worker: Worker, tmp_path: Path) -> None:
    """The plan that is timed is asked for its answers too: one a feed, in order."""
    loaded(worker, tmp_path)
    out = tmp_path / "out.npz"
    assert worker.ask("run", feeds=tmp_path / "requests.npz", outputs=out) == 2
    assert [feed["y"].shape for feed in arrays.load(out)] == [(1, 4), (2, 4)]


SPILL = """
import os, sys
def spill(calls, text):
    os.write(int(sys.argv[3]), text.encode("latin-1") + b"\\n")
"""


@pytest.mark.parametrize("text", ["\xff\x00 garbage", "5", "[]", "{}", '{"value": 1', "null", ""])
def test_garbage_on_its_pipe_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Whoever writes there what is no answer is broken, with its log, and no longer runs."""
    (tmp_path / "accel_spill.py").write_text(SPILL)
    monkeypatch.syspath_prepend(tmp_path)
    with Worker("spiller", tmp_path / "spiller.log") as spiller:
        pid = spiller.pid
        with pytest.raises(CandidateBroken, match="spiller: apply was answered with") as one:
            spiller.ask("apply", function="accel_spill:spill", words={"text": text})
        assert str(tmp_path / "spiller.log") in str(one.value)
        assert not psutil.pid_exists(pid)
        with pytest.raises(CandidateBroken, match="the worker died"):
            spiller.ask("memory")


def test_a_full_disk_is_no_fault_of_the_worker(worker: Worker, tmp_path: Path) -> None:
    """An order whose file cannot be written is the machine's trouble: the run ends, no candidate is lost."""
    loaded(worker, tmp_path)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (0, 0))
    with pytest.raises(EnvironmentProblem, match="is full, or a limit on file sizes is reached"):
        worker.ask("run", feeds=tmp_path / "requests.npz", outputs=tmp_path / "out.npz")
    assert worker.ask("memory") > 1 << 20
