"""Inside a worker: serve queries as they arrive, or one behind the other, and note the times.

The loop runs where the engine runs, so that no pipe is in a latency. One session serves one query
at a time, first come first served, on the threads of its plan. The same loop waits for the next
arrival, so it never wakes the server: what it is late by itself is `lateness_ns` in `scenarios`.
"""

from __future__ import annotations

import io
import itertools
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import disk

if TYPE_CHECKING:
    from numpy.typing import NDArray

Call = Callable[[], Any]
Stop = Callable[[], bool]
CAPACITY = 1 << 21  # queries of a closed loop: two times 16 MiB
SPIN_NS = 1_000_000  # of waiting is spun: a sleep overshoots by the timer's slack and the wake-up
CHECK_NS = 100_000_000  # a sleep is at most so long, so that an interrupt is seen
PILOT_S = 0.3
NO_BOUND = 1 << 62  # ns


def closed_loop(
    queries: Sequence[Sequence[Call]], seconds: float, times: NDArray[Any], stop: Stop
) -> int:
    """Cycle through the queries back to back for `seconds`, at least one; fills `times` [2, Q] with
    start and end (ns of the clock) and returns how many were served."""
    clock, (started, ended) = time.perf_counter_ns, times
    end = clock() + int(seconds * 1e9)
    for k, query in zip(range(len(started)), itertools.cycle(queries), strict=False):
        start = clock()
        if k and (start >= end or stop()):
            return k
        for one in query:
            one()
        ended[k] = clock()
        started[k] = start
    return len(started)


def open_loop(
    queries: Sequence[Sequence[Call]],
    due_ns: Sequence[int],
    limit_s: float,
    times: NDArray[Any],
    stop: Stop,
    bound_ns: int = NO_BOUND,
    most_over: int = 0,
) -> int:
    """Serve each query once it is due (ns of the clock), in order; those that are still waiting
    `limit_s` after the first began are left, and those that come after more than `most_over` took
    longer than `bound_ns`. As `closed_loop` otherwise."""
    clock, (started, ended), over = time.perf_counter_ns, times, 0
    limit = clock() + int(limit_s * 1e9)
    for k, (due, query) in enumerate(zip(due_ns, queries, strict=True)):
        wait(due, stop)
        start = clock()
        if stop() or start > limit:
            return k
        for one in query:
            one()
        end = clock()
        started[k], ended[k] = start, end
        over += end - due > bound_ns
        if over > most_over and bound_ns < NO_BOUND:
            return k + 1
    return len(due_ns)


def wait(until_ns: int, stop: Stop) -> None:
    """Sleep until shortly before, then spin."""
    clock = time.perf_counter_ns
    while (left := until_ns - clock()) > SPIN_NS:
        time.sleep(min(left - SPIN_NS, CHECK_NS) * 1e-9)
        if stop():
            return
    while clock() < until_ns:
        pass


def pilot(calls: Sequence[Call], weights: Sequence[float]) -> float:
    """Weighted mean seconds of a call, from about PILOT_S of them, one whole pass at least."""
    sums, passes = [0.0] * len(calls), 0
    begun = time.perf_counter()
    while not passes or time.perf_counter() - begun < PILOT_S:
        for i, one in enumerate(calls):
            start = time.perf_counter()
            one()
            sums[i] += time.perf_counter() - start
        passes += 1
    return sum(w * s for w, s in zip(weights, sums, strict=True)) / passes / sum(weights)


def serve(
    calls: Sequence[Call], plan: str, out: str, seconds: float, limit_s: float, futile_s: float
) -> Any:
    """Serve what `plan` schedules (.npz: scheduled_ns [Q], picks [Q, K]; nothing scheduled: closed
    loop) and write `out`: scheduled_ns, started_ns and ended_ns [Q], from the run's start, and
    request [Q, K]. SIGINT ends it early; what was served is written. `futile_s`: a bound on p99 at
    which the run ends once p99 cannot keep inside it; 0: it goes on."""
    import numpy as np

    with np.load(plan, allow_pickle=False) as found:
        scheduled, picks = found["scheduled_ns"], found["picks"]
    queries = [[calls[i] for i in row] for row in picks.tolist()]
    times = np.zeros((2, len(scheduled) or CAPACITY), np.int64)
    used, stopped = time.process_time(), Interrupt()
    origin = time.perf_counter_ns()
    if len(scheduled):
        due = (origin + scheduled).tolist()
        bound_ns = int(futile_s * 1e9) or NO_BOUND
        count = open_loop(queries, due, limit_s, times, stopped, bound_ns, len(due) // 100)
    else:
        count = closed_loop(queries, seconds, times, stopped)
    own_s, begun = time.process_time() - used, times[:, :count] - origin
    columns = {
        "scheduled_ns": scheduled if len(scheduled) else begun[0],
        "started_ns": _filled(begun[0], len(scheduled)),
        "ended_ns": _filled(begun[1], len(scheduled)),
    }
    total = len(columns["scheduled_ns"])
    columns["request"] = picks[np.arange(total) % len(picks)]
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **columns)
    with disk.guarded(Path(out)):
        disk.write(Path(out), buffer.getvalue())
    return {"served": count, "own_s": own_s, "interrupted": stopped()}


class Interrupt:
    """Says whether SIGINT has come since; it takes the signal's place in this process."""

    def __init__(self) -> None:
        self.come = False
        signal.signal(signal.SIGINT, self._note)

    def __call__(self) -> bool:
        return self.come

    def _note(self, *_: object) -> None:
        self.come = True


def _filled(times: NDArray[Any], total: int) -> NDArray[Any]:
    """Times of the served, -1 for the others."""
    import numpy as np

    found = np.full(max(total, len(times)), -1, np.int64)
    found[: len(times)] = times
    return found
