"""What the user demands of a release, and how a candidate is held against it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from accel import catalog
from accel.errors import UsageError
from accel.plain import shown
from accel.values import Candidate, Target

Objective = Literal["latency", "tail", "throughput", "size"]
OBJECTIVES: tuple[str, ...] = ("latency", "tail", "throughput", "size")

# Screening is rough: only what was over a limit by more than this is kept out of a final.
MEMORY_MARGIN, LATENCY_MARGIN = 1.1, 1.3


@dataclass(frozen=True)
class Constraints:
    """What the user demands; None is no demand. `max_drop` is in the metric's unit."""

    max_drop: float | None = None
    max_drop_relative: bool = False  # True: max_drop is a percentage of the baseline's score
    min_speedup: float | None = None  # against fp32 in ONNX Runtime, same run
    max_latency_s: float | None = None  # the weighted sum of per-request medians
    max_memory_bytes: int | None = None
    recipes: tuple[str, ...] = ()  # empty: all
    engines: tuple[str, ...] = ()  # empty: the target's
    objective: str = "latency"
    certify: bool = False

    def budget(self, baseline: float) -> float:
        """The allowed drop in the metric's own unit, given the baseline's score."""
        if self.max_drop is None:
            return float("inf")
        return self.max_drop / 100 * abs(baseline) if self.max_drop_relative else self.max_drop


def validate(constraints: Constraints, target: Target) -> None:
    """Raise UsageError for a name that does not exist or a number that makes no sense."""
    for recipe in constraints.recipes:
        catalog.require("recipes", recipe)
    for engine in constraints.engines:
        catalog.require("engines", engine)
        if engine not in target.engines:
            raise UsageError(
                f"Target {target.name!r} does not have engine {engine!r}; "
                f"it has: {shown(', '.join(target.engines), keep='')}."
            )
    if constraints.objective == "energy":
        raise UsageError(
            "Objective 'energy' is refused: no energy counter can be read on this machine. "
            f"Allowed: {', '.join(OBJECTIVES)}."
        )
    if constraints.objective not in OBJECTIVES:
        raise UsageError(
            f"Objective {constraints.objective!r} is unknown. Allowed: {', '.join(OBJECTIVES)}."
        )
    for name in ("max_drop", "min_speedup", "max_latency_s", "max_memory_bytes"):
        value = getattr(constraints, name)
        if value is not None and not 0 <= value < math.inf:
            raise UsageError(f"{name} must be a number of at least 0, not {value!r}.")


def fits(candidate: Candidate, constraints: Constraints) -> bool:
    """May it win, as far as screening can tell? Its recipe was asked for, and it was not far over
    the limits on memory and time."""
    memory, latency_s = constraints.max_memory_bytes, constraints.max_latency_s
    return (
        (not constraints.recipes or candidate.recipe in constraints.recipes)
        and (memory is None or candidate.peak_memory_bytes <= MEMORY_MARGIN * memory)
        and (latency_s is None or (candidate.screen_s or 0.0) <= LATENCY_MARGIN * latency_s)
    )


def broken(candidate: Candidate, constraints: Constraints, fp32_s: float | None) -> str:
    """Which demand a measured candidate misses, with the figure; "" when it meets them all."""
    time_s, memory_bytes = candidate.objective_s or 0.0, candidate.peak_memory_bytes
    if constraints.recipes and candidate.recipe not in constraints.recipes:
        return f"measured for comparison only: --recipe {', '.join(constraints.recipes)} was asked"
    if constraints.max_latency_s is not None and time_s > constraints.max_latency_s:
        return f"{time_s * 1e3:.2f} ms, allowed {constraints.max_latency_s * 1e3:g} ms"
    allowed = constraints.max_memory_bytes
    if allowed is not None and memory_bytes > allowed:
        return f"{memory_bytes / 1e6:.0f} MB of memory, allowed {allowed / 1e6:.0f} MB"
    demanded = constraints.min_speedup
    if demanded is not None and fp32_s is not None and fp32_s / time_s < demanded:
        return f"{fp32_s / time_s:.2f}x faster than fp32, demanded {demanded:g}x"
    return ""
