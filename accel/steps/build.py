"""Build a plan: an engine's compiler, run in a child with a time and a memory limit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from accel import arrays, catalog, disk
from accel.errors import UsageError
from accel.measure import child
from accel.values import Model, Options, Plan, Request, Target

TIMEOUT_S = 1800.0  # the slowest build measured took minutes; a hang must not take the night


def build(
    model: Model,
    engine: str,
    target: Target,
    options: Options,
    requests: Sequence[Request],
    out: str | Path,
    *,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = None,
    log: str | Path | None = None,
) -> Plan:
    """What `engine` makes of the model, in the folder `out`; what it printed goes to `log`.

    The default log stands beside `out`, not in it: it differs from run to run, the plan should not.
    Raises CandidateBroken when the engine refuses, crashes or passes a limit, MissingExtra when its
    library is absent, UsageError for an unknown engine or an `out` that is a file, or /,
    EnvironmentProblem for one that cannot be written."""
    catalog.require("engines", engine)
    out = Path(out)
    out = out.resolve() if out.name in ("", "..") else out  # the log stands beside it, by its name
    if not out.name:
        raise UsageError(f"A plan needs a folder of its own, not {out}. Choose another --out.")
    with disk.guarded(out):
        out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        feeds = Path(folder, "requests.npz")
        arrays.save(feeds, (r.inputs for r in requests))
        return child.call(
            "accel.steps.build:in_child",
            {
                "model": model,
                "engine": engine,
                "target": target,
                "options": options,
                "requests": feeds,
                "groups": [r.group for r in requests],
                "weights": [r.weight for r in requests],
                "out": out,
            },
            Plan,
            log=Path(log or out.with_name(out.name + ".log")),
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
        )


def in_child(
    model: Model,
    engine: str,
    target: Target,
    options: Options,
    requests: Path,
    groups: tuple[str, ...],
    weights: tuple[float, ...],
    out: Path,
) -> Plan:
    """The build itself."""
    feeds = arrays.load(requests)
    rows = [Request(g, w, f) for g, w, f in zip(groups, weights, feeds, strict=True)]
    plan: Plan = catalog.load("engines", engine).build(model, target, options, rows, out)
    return plan
