"""A plan's outputs on many feeds, computed in a fresh process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accel import arrays
from accel.measure import limits
from accel.measure.worker import TIMEOUT_S, Worker
from accel.values import Feed, Plan, Target

CHUNK_BYTES = 64 << 20  # of inputs on their way to the worker; bounds both processes' extra memory
CHUNK_FEEDS = 256


def outputs(
    plan: Plan,
    feeds: Sequence[Feed],
    out: Path,
    *,
    name: str = "",
    timeout_s: float = TIMEOUT_S,
    log: Path | None = None,
    target: Target | None = None,
) -> Path:
    """Run every feed once, in order; returns out/"outputs.npz" (`arrays.load` reads it).

    `timeout_s` is for loading and for each chunk of feeds. The worker prints to `log`, else to
    out/"run.log". `target`: whose memory it is held to.
    Raises CandidateBroken when the plan does not load, crashes, hangs, takes too much memory or
    refuses a feed."""
    out.mkdir(parents=True, exist_ok=True)
    found: list[Mapping[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="accel-") as folder,
        Worker(name or plan.engine, log or out / "run.log") as worker,
    ):
        if target is not None:
            limits.hold(worker, target)
        worker.ask("load", timeout_s, plan=plan, requests="")
        for chunk in _chunks(feeds):
            sent, answered = Path(folder, "in.npz"), Path(folder, "out.npz")
            arrays.save(sent, chunk)
            worker.ask("run", timeout_s, feeds=sent, outputs=answered)
            found += arrays.load(answered)
            if target is not None:
                limits.require(worker, target)
    path = out / "outputs.npz"
    arrays.save(path, found)
    return path


def _chunks(feeds: Sequence[Feed]) -> Iterator[list[Feed]]:
    chunk: list[Feed] = []
    size = 0
    for feed in feeds:
        chunk.append(feed)
        size += sum(array.nbytes for array in feed.values())
        if size >= CHUNK_BYTES or len(chunk) == CHUNK_FEEDS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
