"""An engine that fails as its options say, and is ONNX Runtime otherwise: a fake, copied into accel/engines/."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accel.engines import onnxruntime_cpu as real
from accel.protocols import Session as Loaded
from accel.values import Feed, Model, Options, Plan, Request, Target

BASELINE = False
probe, style, recipes = real.probe, real.style, real.recipes


def options(
    recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
) -> tuple[Options, ...]:
    """No fault."""
    return ({"threads": 1, "fault": ""},)


def fail(options: Options, place: str) -> None:
    """What was asked for, where it was."""
    where, _, how = str(options["fault"]).partition(" ")
    if where != place:
        return
    print(f"about to {how} in {place}", flush=True)
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "hang":
        time.sleep(600)
    elif how == "leave":
        os._exit(3)
    elif how == "hoard":
        hoarded = []
        for _ in range(200):
            hoarded.append(b"x" * (50 << 20))
            time.sleep(0.02)
    elif how == "scrawl":
        os.write(int(sys.argv[3]), b"\xff\x00 garbage\n")
    elif how == "raise":
        raise RuntimeError("first line\nlast line\n")


def build(
    model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
) -> Plan:
    """ONNX Runtime's plan."""
    fail(options, "build")
    if options["fault"] == "build another":
        return 5  # type: ignore[return-value]
    plan = real.build(model, target, {"threads": 1}, requests, out)
    return dataclasses.replace(plan, engine="faulty", options=options)


def load(plan: Plan) -> Loaded:
    """ONNX Runtime's session, inside another."""
    fail(plan.options, "load")
    inner = dataclasses.replace(plan, engine="onnxruntime_cpu", options={"threads": 1})
    return Session(real.load(inner), plan.options)


class Session:
    """Answers are wrong as asked."""

    def __init__(self, inner: Loaded, options: Options) -> None:
        self._inner, self._options = inner, options

    def __call__(self, feed: Feed) -> dict[str, Any]:
        fail(self._options, "run")
        got = self._inner(feed)
        fault = self._options["fault"]
        if fault == "run shapes":
            return {k: v[..., :1] for k, v in got.items()}
        if fault == "run names":
            return {f"other_{k}": v for k, v in got.items()}
        if fault == "run nan":
            return {k: v * np.nan for k, v in got.items()}
        return got

    def bind(self, feed: Feed) -> Any:
        """A call."""
        return lambda: self(feed)

    def close(self) -> None:
        """Nothing is held."""
        self._inner.close()
