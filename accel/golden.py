"""The smoke test of a release: golden inputs, the reference's outputs, how far an engine may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accel import arrays, disk
from accel.errors import AccelError, CandidateBroken
from accel.plain import flat
from accel.values import Feed

MARGIN = 4.0  # a kernel picked otherwise on the same class of machine moves the last digits only
FLOOR_ULPS = 64  # of float32 at the output's own size: for a winner that is exact at pack time


def read(root: Path) -> tuple[list[Feed], list[Feed]]:
    """The smoke test's inputs and the reference's outputs for them."""
    feeds = arrays.load(root / "golden.npz")
    return [_part(feed, "in/") for feed in feeds], [_part(feed, "out/") for feed in feeds]


def errors(session: Callable[[Feed], Mapping[str, Any]], root: Path) -> dict[str, dict[str, float]]:
    """Per output, over all golden inputs: largest absolute error and largest reference value.

    NaN where an output is missing, has another shape, or is not finite where the reference is."""
    found: dict[str, dict[str, float]] = {}
    for feed, reference in zip(*read(root), strict=True):
        outputs = session(feed)
        for name, wanted in reference.items():
            error, scale = _error(outputs.get(name), wanted)
            seen = found.setdefault(name, {"error": 0.0, "scale": 0.0})
            seen["error"] = _nan_max(seen["error"], error)
            seen["scale"] = max(seen["scale"], scale)
    return found


def tolerance(seen: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What `load` accepts per output, from the errors measured at pack time."""
    ulp = FLOOR_ULPS * 2.0**-23
    return {k: MARGIN * v["error"] + ulp * v["scale"] for k, v in seen.items()}


def _error(output: Any, wanted: Any) -> tuple[float, float]:
    import numpy as np

    if output is None or np.shape(output) != wanted.shape:
        return math.nan, 0.0
    a, b = np.asarray(output, np.float64), np.asarray(wanted, np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf, which `==` has already called equal
        off = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    finite = np.abs(b[np.isfinite(b)])
    return float(off.max(initial=0.0)), float(finite.max(initial=0.0))


def _nan_max(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def _part(feed: Feed, prefix: str) -> Feed:
    return {k.removeprefix(prefix): v for k, v in feed.items() if k.startswith(prefix)}


def smoke(
    root: Path, session: Callable[[Feed], Mapping[str, Any]], allowed: Mapping[str, float]
) -> None:
    """Raise CandidateBroken where a session errs by more than `allowed`, by output, on the golden inputs."""
    try:
        seen = errors(session, root)
    except AccelError:
        raise
    except Exception as error:  # whatever a runtime throws
        disk.blame(error)
        raise CandidateBroken(f"{root} fails on its golden inputs: {flat(error)}") from None
    for name, found in seen.items():
        if not found["error"] <= allowed.get(name, 0.0):  # `not <=`: NaN fails too
            raise CandidateBroken(
                f"{root} refuses to run: output {name!r} is off by {found['error']:.3g} on the "
                f"golden inputs, {allowed.get(name, 0.0):.3g} was allowed. "
                f"Rebuild: sh {root / 'reproduce.sh'}"
            )
