"""One arm's process: it loads a plan once, then runs blocks of timed calls when told to.

Orders and answers are JSON lines over a pipe pair of their own, because libraries print on stdout.
The parent stops an idle worker (SIGSTOP): an idle runtime's thread pool spins on, for 3 to 500 ms
after a run, and would slow the next arm (microsoft/onnxruntime#27916).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from accel import arrays, catalog, manifest
from accel.errors import CandidateBroken
from accel.measure import child
from accel.values import Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TIMEOUT_S = 900.0  # for one order; a block of the slowest sane model ends long before
CUT_S = 10.0  # for an order that is to end early: its last call, and the writing
DEATH_S = 10.0  # for a worker that hung up to be gone
CAPACITY = 1 << 18  # timed calls in a block, at most: 2 MiB of int64
WAKE_CALLS, WAKE_NS = 3, 20_000_000  # dropped after SIGCONT: max(3 calls, 20 ms)


@dataclass(frozen=True)
class Block:
    """Timed calls: one request index and duration each, and the processor time of the worker."""

    indexes: Sequence[int]  # cycled
    durations_ns: Sequence[int]
    own_s: float


class Worker:
    """The parent's handle on one arm's process. Any trouble raises CandidateBroken and ends it."""

    def __init__(self, name: str, log: Path) -> None:
        order_read, order_write = os.pipe()
        answer_read, answer_write = os.pipe()
        self.name, self.log = name, log
        fds = (order_read, answer_write)
        try:
            words = (str(order_read), str(answer_write))
            self._spawned = child.spawn("accel.measure.worker", words, log, fds)
        finally:
            os.close(order_read)
            os.close(answer_write)
        self._orders, self._answers = os.fdopen(order_write, "wb"), answer_read
        self._rest = b""

    @property
    def pid(self) -> int:
        """Of the process that runs the engine."""
        return self._spawned.process.pid

    def ask(self, verb: str, timeout_s: float = TIMEOUT_S, **words: Any) -> Any:
        """Send one order and wait for its answer.

        Raises the worker's own AccelError; CandidateBroken when it died or took too long."""
        line = json.dumps({"verb": verb, **manifest.dump(words)}) + "\n"
        if self._orders.closed:
            raise self._dead(verb)
        try:
            self._orders.write(line.encode())
            self._orders.flush()
            answer = json.loads(self._line(timeout_s, verb))
        except BrokenPipeError:
            raise self._dead(verb) from None
        if "error" in answer:
            child.raise_data(answer["error"], f"{self.name}: {verb}", self.log)
        return answer["value"]

    def load(self, plan: Plan, requests: Path) -> tuple[float, float]:
        """Load the plan and make the first call; seconds of each."""
        load_s, cold_s = self.ask("load", plan=plan, requests=requests.absolute())
        return load_s, cold_s

    def block(self, indexes: Sequence[int], seconds: float, awake: bool = False) -> Block:
        """Cycle through these requests, for one whole pass and `seconds` at least.

        `awake`: the process ran just now, so that one dropped call is enough."""
        found = self.ask("block", indexes=list(indexes), seconds=seconds, awake=awake)
        return Block(tuple(indexes), found["durations_ns"], found["own_s"])

    def cut_short(self) -> None:
        """Have the running order end early, and wait for it: what it has done is then on disk."""
        self._signal(signal.SIGINT)
        with contextlib.suppress(CandidateBroken):
            self._line(CUT_S, "an order that was cut short")

    def stop(self) -> None:
        """Freeze the process; its guardian stays awake."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Wake it again."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process and everything it started."""
        child.end(self._spawned)
        if not self._orders.closed:
            os.close(self._answers)
            with contextlib.suppress(BrokenPipeError):
                self._orders.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._spawned.process.poll() is None:
            self._spawned.process.send_signal(number)

    def _line(self, timeout_s: float, verb: str) -> bytes:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                self.close()
                raise CandidateBroken(
                    f"{self.name}: {verb} did not end within {timeout_s:g} s; the worker was "
                    f"killed. What it printed: less {self.log}"
                )
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                raise self._dead(verb)
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _dead(self, verb: str) -> CandidateBroken:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._spawned.process.wait(DEATH_S)  # it hung up; it may still be on its way out
        child.end(self._spawned)
        how = child.exit_text(self._spawned.process.wait())
        return CandidateBroken(
            f"{self.name}: the worker died during {verb} ({how}). What it printed: less {self.log}"
        )


@dataclass
class _State:
    """What the process holds between orders."""

    session: Any = None
    calls: list[Callable[[], Any]] = field(default_factory=list)
    out: Any = None  # [CAPACITY] int64, nanoseconds


def timed(
    calls: Sequence[Callable[[], Any]], seconds: float, out: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Durations (ns) of whole passes over `calls`, at least one and `seconds`; fills `out`.

    Outputs are dropped inside the timed window, as a server drops them; storing is outside it."""
    clock, count, room = time.perf_counter_ns, 0, len(out) - len(calls)
    end = clock() + int(seconds * 1e9)
    while count == 0 or (clock() < end and count <= room):
        for one in calls:
            start = clock()
            one()
            out[count] = clock() - start
            count += 1
    return out[:count]


def _load(state: _State, plan: Any, requests: str) -> Any:
    import numpy as np

    _pin(int(plan["options"].get("threads", 0)))
    engine = catalog.load("engines", plan["engine"])
    feeds = arrays.load(Path(requests)) if requests else []
    start = time.perf_counter()
    state.session = engine.load(manifest.load(Plan, plan))
    loaded = time.perf_counter()
    state.calls = [state.session.bind(feed) for feed in feeds]
    state.out = np.zeros(CAPACITY, np.int64)
    first = time.perf_counter()
    if state.calls:
        state.calls[0]()
    return [loaded - start, time.perf_counter() - first]


def _pin(threads: int) -> None:
    """Keep a plan of few threads on as many cores, the last ones (interrupts favour the first):
    free to wander, it would be timed on cold caches whenever it does."""
    allowed = sorted(os.sched_getaffinity(0))
    if 0 < threads < len(allowed):
        os.sched_setaffinity(0, allowed[-threads:])


def _prepare(_: _State, engine: str) -> None:
    """Import the engine: afterwards `load` costs what the plan costs, and no import beside it."""
    catalog.load("engines", engine)


def _lag(state: _State, share: float) -> None:
    """Stretch every call by a share of its own time, by spinning: a slowdown of known size."""
    state.calls = [_stretched(one, share) for one in state.calls]


def _stretched(call: Callable[[], Any], share: float) -> Callable[[], Any]:
    clock = time.perf_counter_ns

    def slower() -> Any:
        start = clock()
        answer = call()
        end = clock()
        until = end + int(share * (end - start))
        while clock() < until:
            pass
        return answer

    return slower


def _warm(state: _State, count: int) -> None:
    for _ in range(count):
        for one in state.calls:
            one()
    gc.collect()
    gc.freeze()
    gc.disable()


def _block(state: _State, indexes: Sequence[int], seconds: float, awake: bool) -> Any:
    calls = [state.calls[i] for i in indexes]
    used = time.process_time()
    start, dropped = time.perf_counter_ns(), 0
    least, wake_ns = (1, 0) if awake else (WAKE_CALLS, WAKE_NS)
    while dropped < least or time.perf_counter_ns() - start < wake_ns:
        calls[dropped % len(calls)]()
        dropped += 1
    durations = timed(calls, seconds, state.out)
    return {"durations_ns": durations.tolist(), "own_s": time.process_time() - used}


def _run(state: _State, feeds: str, outputs: str) -> int:
    return arrays.save(Path(outputs), (state.session(f) for f in arrays.load(Path(feeds))))


def _memory(_: _State) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(x.split()[1]) * 1024 for x in text.splitlines() if x.startswith("VmHWM"))


def _apply(state: _State, function: str, words: Mapping[str, Any]) -> Any:
    """ "package.module:function" of the bound calls: a loop that is too particular to stand here."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(state.calls, **words)


VERBS: Mapping[str, Callable[..., Any]] = {
    "prepare": _prepare,
    "lag": _lag,
    "load": _load,
    "warm": _warm,
    "block": _block,
    "run": _run,
    "memory": _memory,
    "apply": _apply,
}


def _serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    state = _State()
    for line in orders:
        words = json.loads(line)
        try:
            answer = {"value": VERBS[words.pop("verb")](state, **words)}
        except Exception as error:
            answer = {"error": child.error_data(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def main(leash: str, orders: str, answers: str) -> None:
    """Serve until the parent closes the pipe or dies."""
    child.guard(int(leash))
    with os.fdopen(int(orders), "rb") as read, os.fdopen(int(answers), "wb") as write:
        _serve(read, write)


if __name__ == "__main__":
    main(*sys.argv[1:])
