"""Start a candidate in this process: its plan as it was built, or its graph, built anew for this machine."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from accel import catalog, disk
from accel.errors import AccelError, CandidateBroken, Unmeasured, UsageError
from accel.measure import machine
from accel.plain import flat, seen, shown
from accel.protocols import Engine, Session
from accel.values import Candidate, Options, Request, Target

T = TypeVar("T")


def start(candidate: Candidate) -> Session:
    """The candidate's plan, loaded by its engine in this process.

    Raises CandidateBroken for whatever the runtime throws."""
    plan = candidate.plan
    if plan is None:
        raise Unmeasured(f"{shown(candidate.name, keep='')} was never built.")
    return _guarded(candidate, lambda: _engine(candidate).load(plan))


def portable(candidate: Candidate, asked: Sequence[Request]) -> Session:
    """The candidate's graph, built for this machine and loaded; raises as `start` does."""
    plan, engine = candidate.plan, _engine(candidate)
    if plan is None:
        raise Unmeasured(f"{shown(candidate.name, keep='')} has no graph: it was never built.")
    refuse_code(candidate.options)
    here = Target("here", "this machine", (candidate.engine,), local=True)
    options = dict(candidate.options)
    if "threads" in options:  # as many as there were where it was packed
        options["threads"] = min(int(options["threads"]), machine.cores())
    # lives as long as the session: it may read lazily
    folder = _guarded(candidate, tempfile.TemporaryDirectory)
    build = functools.partial(engine.build, plan.model, here, options, asked)
    made = _guarded(candidate, lambda: build(Path(folder.name)))
    session = start(dataclasses.replace(candidate, plan=made))
    weakref.finalize(session, folder.cleanup)
    return session


def refuse_code(options: Options) -> None:
    """Raise UsageError for a plan that runs the user's module, as a baseline's does: no release holds one."""
    if "workload" in options:
        raise UsageError(
            f"The manifest asks to run a Python file, {seen(options['workload'])}. A release never does: "
            f"accel did not write this one."
        )


def _engine(candidate: Candidate) -> Engine:
    found: Engine = catalog.load("engines", candidate.engine)
    return found


def _guarded(candidate: Candidate, call: Callable[[], T]) -> T:
    try:
        return call()
    except AccelError:
        raise
    except Exception as error:  # whatever a runtime throws: none of it may cross the API
        disk.blame(error)
        name = shown(candidate.name, keep="")
        raise CandidateBroken(f"{name} does not load: {flat(error)}") from None
