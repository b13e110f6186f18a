"""Who else uses the processor: the foreign load beside a block of timed calls.

/proc/stat counts whole ticks (10 ms) per core, so a short block is allowed one tick per core more
than the limit. Steal counts as foreign: another guest had the core.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accel.measure import machine

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
LIMIT_CORES = 0.15  # a quiet 2-core guest reads 0.02-0.06; one busy process reads 0.9 and more
BUSY = (0, 1, 2, 5, 6, 7)  # user nice system irq softirq steal; 3 and 4 are idle and iowait


@dataclass(frozen=True)
class Moment:
    """The clock, and the processor time used by everyone on the cores we may use."""

    wall_s: float
    busy_s: float


def now() -> Moment:
    """Read the clock and /proc/stat; where that is missing, nobody else is ever seen."""
    return Moment(time.monotonic(), _busy_s(Path("/proc/stat"), os.sched_getaffinity(0)))


def _busy_s(path: Path, cores: set[int]) -> float:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    wanted = {f"cpu{core}" for core in cores}
    rows = (line.split() for line in lines if line.startswith("cpu"))
    return sum(TICK_S * int(row[1 + i]) for row in rows if row[0] in wanted for i in BUSY)


def foreign_cores(before: Moment, after: Moment, own_s: float) -> float:
    """Mean number of cores that others kept busy, beyond those that a quota leaves to them anyway;
    `own_s` is our processes' own processor time."""
    wall = max(after.wall_s - before.wall_s, TICK_S)
    return max(0.0, (after.busy_s - before.busy_s - own_s) / wall - machine.spare())


def disturbed(foreign: float, wall_s: float, cores: int) -> bool:
    """Whether a block had more company than the limit and the ticks' own error allow."""
    return foreign > LIMIT_CORES + cores * TICK_S / max(wall_s, TICK_S)


def heavy(foreign: Sequence[float], cores: int) -> bool:
    """Whether others typically held more than half of our cores."""
    return statistics.median(foreign) > 0.5 * cores
