"""Inside an arm's process: load a plan once, then run blocks of timed calls when told to.

Orders and answers are JSON lines over a pipe pair of their own, because libraries print on stdout.
`worker` holds the other end.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from accel import arrays, catalog, manifest
from accel.measure import child, machine
from accel.values import Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CAPACITY = 1 << 18  # timed calls in a block, at most: 2 MiB of int64
WARM_LEAST, WARM_S = 3, 10.0  # passes of a warm-up that takes so long or longer
WAKE_CALLS, WAKE_NS = 3, 20_000_000  # dropped after SIGCONT: max(3 calls, 20 ms)


@dataclass
class _State:
    """What the process holds between orders."""

    session: Any = None
    calls: list[Callable[[], Any]] = field(default_factory=list)
    out: Any = None  # [CAPACITY] int64, nanoseconds


def timed(
    calls: Sequence[Callable[[], Any]], seconds: float, out: NDArray[np.int64], least: int = 1
) -> NDArray[np.int64]:
    """Durations (ns) of whole passes over `calls`, of `seconds` and `least` calls or more; fills `out`.

    Outputs are dropped inside the timed window, as a server drops them; storing is outside it."""
    clock, count, room = time.perf_counter_ns, 0, len(out) - len(calls)
    end = clock() + int(seconds * 1e9)
    while count == 0 or ((clock() < end or count < least) and count <= room):
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
    for feed in feeds[:1]:
        state.session(feed)  # before any bind: some engines run the model while they bind
    called = time.perf_counter()
    state.calls = [state.session.bind(feed) for feed in feeds]
    state.out = np.zeros(CAPACITY, np.int64)
    return [loaded - start, called - loaded]


def _pin(threads: int) -> None:
    """Keep a plan of few threads on as many cores, the last ones (interrupts favour the first):
    free to wander, it would be timed on cold caches whenever it does. Where a quota gives it a share
    of more cores, others have the rest, and all of them would be held on those same last ones."""
    allowed = sorted(os.sched_getaffinity(0))
    if 0 < threads < len(allowed) and not machine.spare():
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


def _warm(state: _State, count: int) -> float:
    """Passes over all requests; seconds of the last one. No garbage is collected from here on.

    Once they have taken WARM_S, no more than WARM_LEAST are made: what is slow has little to warm up,
    and would never come to be timed."""
    begun, last_s = time.perf_counter(), 0.0
    for k in range(1, count + 1):
        start = time.perf_counter()
        for one in state.calls:
            one()
        last_s = time.perf_counter() - start
        if k >= WARM_LEAST and start + last_s - begun > WARM_S:
            break
    gc.collect()
    gc.freeze()
    gc.disable()
    return last_s


def _block(
    state: _State, indexes: Sequence[int], seconds: float, awake: bool, least: int = 1
) -> Any:
    calls = [state.calls[i] for i in indexes]
    used = time.process_time()
    start, dropped = time.perf_counter_ns(), 0
    wake_calls, wake_ns = (1, 0) if awake else (WAKE_CALLS, WAKE_NS)
    while dropped < wake_calls or time.perf_counter_ns() - start < wake_ns:
        calls[dropped % len(calls)]()
        dropped += 1
    durations = timed(calls, seconds, state.out, least)
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
