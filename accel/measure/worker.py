"""The parent's hold on one arm's process, which runs blocks of timed calls when told to: `process`.

Orders and answers are JSON lines over a pipe pair of their own, because libraries print on stdout.
The parent stops an idle worker (SIGSTOP): an idle runtime's thread pool spins on, for 3 to 500 ms
after a run, and would slow the next arm (microsoft/onnxruntime#27916).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import manifest
from accel.errors import CandidateBroken
from accel.measure import child
from accel.values import Plan

TIMEOUT_S = 900.0  # for one order; a block of the slowest sane model ends long before
CUT_S = 10.0  # for an order that is to end early: its last call, and the writing
DEATH_S = 10.0  # for a worker that hung up to be gone


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
            self._spawned = child.spawn("accel.measure.process", words, log, fds)
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
            answer = self._answer(self._line(timeout_s, verb), verb)
        except BrokenPipeError:
            raise self._dead(verb) from None
        if "error" in answer:
            child.raise_data(answer["error"], f"{self.name}: {verb}", self.log)
        return answer["value"]

    def load(self, plan: Plan, requests: Path) -> tuple[float, float]:
        """Load the plan and make the first call; seconds of each."""
        load_s, cold_s = self.ask("load", plan=plan, requests=requests.absolute())
        return load_s, cold_s

    def block(
        self, indexes: Sequence[int], seconds: float, awake: bool = False, least: int = 1
    ) -> Block:
        """Cycle through these requests in whole passes, for `seconds` and `least` calls at least.

        `awake`: the process ran just now, so that one dropped call is enough."""
        words: dict[str, Any] = {"seconds": seconds, "awake": awake, "least": least}
        found = self.ask("block", indexes=list(indexes), **words)
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

    def _answer(self, line: bytes, verb: str) -> dict[str, Any]:
        """What a line says. A process that writes anything else there is not listened to again."""
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and answer.keys() & {"value", "error"}:
            return answer
        self.close()
        raise CandidateBroken(
            f"{self.name}: {verb} was answered with {line[:60]!r}, which is no answer; the worker was "
            f"killed. What it printed: less {self.log}"
        )

    def _dead(self, verb: str) -> CandidateBroken:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._spawned.process.wait(DEATH_S)  # it hung up; it may still be on its way out
        child.end(self._spawned)
        how = child.exit_text(self._spawned.process.wait())
        return CandidateBroken(
            f"{self.name}: the worker died during {verb} ({how}). What it printed: less {self.log}"
        )
