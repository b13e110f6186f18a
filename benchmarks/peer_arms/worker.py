"""One arm in its own process: loads it, then times blocks of calls when told to."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from peer_arms import arms, workload
from peer_arms.arms import Arm, Call
from peer_arms.workload import Feed, Problem

WARM_S = 0.05  # a process that slept finds its caches cold and its threads parked
ENVIRONMENT = {"OMP_NUM_THREADS": str(arms.THREADS), "TOKENIZERS_PARALLELISM": "false"}


def serve(link: Connection, arm: Arm, source: Path) -> None:
    """Answer "block" (seconds for each group), "score" and "memory" until the link closes."""
    os.environ |= ENVIRONMENT | {"HF_HUB_OFFLINE": "1"}
    problem = workload.load(source)
    asked = list(problem.requests())
    _forget_peak()
    started = time.perf_counter()
    call = arms.start(arm, problem)
    loaded = time.perf_counter()
    call(asked[0][2])
    link.send({"load_s": loaded - started, "cold_s": time.perf_counter() - loaded})
    _settle(call, asked)
    link.send("settled")
    gc.collect()
    gc.disable()  # a collection in the middle of a call would be charged to the library
    answers = {
        "block": lambda budget_s: block(call, asked, budget_s),
        "score": lambda: score(call, problem),
        "answers": lambda: answers_of(call, problem),
        "memory": peak_bytes,
    }
    while (message := link.recv()) is not None:
        verb, *words = message
        link.send(answers[verb](*words))


def _settle(call: Call, asked: Sequence[tuple[str, float, Feed]]) -> None:
    """Every request twice: runtimes compile or allocate when they first see a shape."""
    for _ in range(2):
        for _, _, feed in asked:
            call(feed)


def block(
    call: Call, asked: Sequence[tuple[str, float, Feed]], budget_s: float
) -> dict[str, list[Any]]:
    """Whole passes over each group's requests, for at least `budget_s` a group."""
    found: dict[str, list[Any]] = {"request": [], "seconds": []}
    clock = time.perf_counter
    for group in dict.fromkeys(name for name, _, _ in asked):
        mine = [(i, feed) for i, (name, _, feed) in enumerate(asked) if name == group]
        _warm(call, mine[0][1])
        until = clock() + budget_s
        while clock() < until:
            for i, feed in mine:
                start = clock()
                call(feed)
                found["seconds"].append(clock() - start)
                found["request"].append(i)
    return found


def _warm(call: Call, feed: Feed) -> None:
    until = time.perf_counter() + WARM_S
    while True:
        call(feed)
        if time.perf_counter() >= until:
            return


def score(call: Call, problem: Problem) -> float:
    """The workload's metric on the split that nothing was chosen on."""
    assert problem.samples is not None
    rows = [problem.row(_answer(call, given), label) for given, label in problem.samples("certify")]
    return float(problem.metric(np.asarray(rows)))


def answers_of(call: Call, problem: Problem) -> dict[str, Any]:
    """Rows on the certify split [N] or [N, K], and every sample's first output, flat [N, D]; without
    labels the outputs alone, on the calibration data."""
    if problem.samples is None:
        found = [call(feed) for feed in problem.calibration()]
        return {"rows": None, "outputs": _flat(found)}
    pairs = [(_answer(call, given), label) for given, label in problem.samples("certify")]
    rows = np.asarray([problem.row(answer, label) for answer, label in pairs], np.float64)
    return {"rows": rows, "outputs": _flat([answer for answer, _ in pairs])}


def _flat(answers: Sequence[Any]) -> np.ndarray:
    firsts = [a[0] if isinstance(a, list) else a for a in answers]
    return np.stack([np.ravel(next(iter(a.values()))) for a in firsts]).astype(np.float32)


def _answer(call: Call, given: Feed | Sequence[Feed]) -> Any:
    """What `row` gets: the outputs, or a list of them where a sample is several calls."""
    return call(given) if isinstance(given, Mapping) else [call(feed) for feed in given]


def _forget_peak() -> None:
    """What reading the workload took is not the arm's (Linux: 5 resets VmHWM, see proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """This process's largest resident size since it began to load (Linux: VmHWM); the workload's
    data, which every arm holds alike, is in it."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024
