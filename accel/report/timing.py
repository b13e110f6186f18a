"""Arms that were timed side by side: quantiles where the sample carries them, ratio to the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import quantiles, stats
from accel.quantiles import Quantile
from accel.values import Measurement, Options, Refusal

HEAD = (
    "arm",
    "requests",
    "p50 ms [95 %]",
    *(f"{name} ms" for name in quantiles.NAMED if name != "p50"),
    "times as fast as the first [95 %]",
)


@dataclass(frozen=True)
class Ratio:
    """How many times faster than the first arm, with its 95 % interval; `high` None: no limit."""

    point: float
    low: float
    high: float | None


@dataclass(frozen=True)
class Group:
    """One request group of an arm."""

    p50_s: float
    p99_s: float | None  # None: the sample does not carry it
    ratio: Ratio | None  # None: the first arm broke
    quantiles: Mapping[str, Quantile | None] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """What is known of one arm; `reason` says why it broke, and is empty when it did not."""

    arm: str
    reason: str = ""
    groups: Mapping[str, Group] = dataclasses.field(default_factory=dict)
    objective_s: float | None = None  # weighted sum of per-request medians
    ratio: Ratio | None = None  # on the objective
    load_s: float | None = None
    cold_s: float | None = None
    peak_memory_bytes: int | None = None
    samples: Path | None = None  # None: they were not asked to be kept
    machine: Options = dataclasses.field(default_factory=dict)


def arms(timed: Sequence[Measurement | Refusal], kept: bool) -> tuple[Arm, ...]:
    """The arms in their order; `kept`: their samples stay where they are."""
    first = timed[0]
    base = first if isinstance(first, Measurement) else None
    return tuple(
        _arm(m, base, kept) if isinstance(m, Measurement) else Arm(m.what, m.reason) for m in timed
    )


def _arm(m: Measurement, base: Measurement | None, kept: bool) -> Arm:
    groups = {
        name: _group(median_s, stats.group_seconds(m, name), _ratio(base, m, name))
        for name, median_s in stats.group_medians(m).items()
    }
    return Arm(
        m.arm,
        groups=groups,
        objective_s=stats.objective(m),
        ratio=_ratio(base, m, None),
        load_s=m.load_s,
        cold_s=m.cold_s,
        peak_memory_bytes=m.peak_memory_bytes,
        samples=m.samples if kept else None,
        machine=m.machine,
    )


def _group(median_s: float, seconds: Any, ratio: Ratio | None) -> Group:
    found = quantiles.named(seconds)
    p99 = found["p99"]
    return Group(median_s, None if p99 is None else p99.value_s, ratio, found)


def _ratio(base: Measurement | None, m: Measurement, group: str | None) -> Ratio | None:
    if base is None:
        return None
    found = stats.ratio(base, m, group)
    return Ratio(found.point, found.low, None if found.high == float("inf") else found.high)


def table(found: Sequence[Arm]) -> list[str]:
    """A line a request group of an arm, below a head, in columns."""
    return columns([HEAD, *(row for arm in found for row in _rows(arm))])


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of one length as lines, their columns below each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _rows(arm: Arm) -> list[tuple[str, ...]]:
    if arm.reason:
        blank = ("",) * (len(HEAD) - 3)
        return [(arm.arm, "broke", *blank, arm.reason.partition("\n")[0])]
    return [(arm.arm, name, *_latencies(g), times(g.ratio)) for name, g in arm.groups.items()]


def _latencies(group: Group) -> tuple[str, ...]:
    p50 = group.quantiles.get("p50")
    middle = interval(p50) if p50 is not None else f"{group.p50_s * 1e3:.3f} [-]"
    tails = (group.quantiles.get(name) for name in quantiles.NAMED if name != "p50")
    return middle, *(ms(tail) for tail in tails)


def ms(found: Quantile | None) -> str:
    """In milliseconds, or that the sample does not carry it."""
    return "not carried" if found is None else f"{found.value_s * 1e3:.3f}"


def interval(found: Quantile | None) -> str:
    """In milliseconds, with the interval."""
    if found is None:
        return ms(found)
    return f"{ms(found)} [{found.low_s * 1e3:.3f}, {found.high_s * 1e3:.3f}]"


def times(ratio: Ratio | None) -> str:
    """A ratio with its interval; "-": no limit."""
    if ratio is None:
        return ""
    high = "-" if ratio.high is None else f"{ratio.high:.2f}"
    return f"{ratio.point:.2f} [{ratio.low:.2f}, {high}]"


def broken(found: Sequence[Arm]) -> str:
    """The reasons of the arms that broke, or an empty text."""
    return "; ".join(f"{arm.arm}: {arm.reason}" for arm in found if arm.reason)
