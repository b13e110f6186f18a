"""accel whose child processes are function calls, and named as such: a run of it takes half a second.

What is given up is what `accel.measure.child` and `worker` promise (crashes, hangs and limits cost
one candidate), and they have tests of their own. Arguments and results travel as JSON all the same.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel import manifest
from accel.measure import child, outputs, process


def call(function: str, arguments: Mapping[str, Any], kind: Any, *, log: Path, **_: Any) -> Any:
    """As `child.call`, here."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.open("ab").close()
    absolute = {k: v.absolute() if isinstance(v, Path) else v for k, v in arguments.items()}
    job = json.loads(manifest.text({"function": function, "arguments": absolute}))
    try:
        found = json.loads(json.dumps(manifest.dump(child._run(job))))
    except BaseException as error:
        child.raise_data(_data(error), function, log)
    return manifest.load(kind, found)


def _data(error: BaseException) -> dict[str, str]:
    """As a child tells it, whose traceback goes to a log."""
    with contextlib.redirect_stderr(io.StringIO()):
        return child.error_data(error)


class Worker:
    """As `worker.Worker`, for outputs: no process, no clock."""

    def __init__(self, name: str, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.open("ab").close()
        self.name, self.log, self._state = name, log, process._State()
        self.pid = os.getpid()

    def ask(self, verb: str, *_: float, **words: Any) -> Any:
        """An order, carried out; its error comes back as a worker's does."""
        try:
            return process.VERBS[verb](self._state, **json.loads(manifest.text(words)))
        except Exception as error:
            child.raise_data(_data(error), f"{self.name}: {verb}", self.log)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        return


def install() -> None:
    """From here on there are no children."""
    child.call = call
    outputs.Worker = Worker  # type: ignore[misc, assignment]
    process._pin = lambda _: None  # it would hold this process to one core
