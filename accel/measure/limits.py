"""How much memory a child may take: the target's where it has a number, never more than this machine has.

A process that takes all there is has the kernel kill whoever it likes, the run itself too. "This
machine" is what is left of it here: a container, a batch job or a systemd unit has a limit of its own,
or is in one that has.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from accel.errors import CandidateBroken
from accel.measure import cgroups
from accel.measure.worker import Worker
from accel.values import Target

SHARE = 0.9  # of the machine's: the rest is for the run itself, and for telling what happened
CACHED = ("inactive_file", "active_file")  # given back on demand, as in the machine's `available`


@dataclass(frozen=True)
class _Files:
    """What a version of cgroups calls a group's limit, what it uses, and totals in memory.stat."""

    limit: str
    used: str
    total: str


FILES = {
    cgroups.V2: _Files("memory.max", "memory.current", ""),
    cgroups.V1: _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}


def machine_bytes() -> int:
    """What children may take of this machine, or of its container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(SHARE * min([total, *(limit for limit, _, _ in _limited())]))


def free_bytes() -> int:
    """What may be taken now beside all that runs, of this machine and of its container."""
    import psutil

    left = (limit - _used(group, files) for limit, group, files in _limited())
    return min([int(psutil.virtual_memory().available), *left])


def _limited() -> Iterator[tuple[int, Path, _Files]]:
    """The limit of each group that this process is in; v1 tells a number beyond all memory for none."""
    for group, version in cgroups.around("memory"):
        files = FILES[version]
        if (limit := cgroups.number(group / files.limit)) is not None:
            yield limit, group, files


def _used(group: Path, files: _Files) -> int:
    rows = (line.split() for line in cgroups.text(group / "memory.stat").splitlines())
    told = {row[0]: int(row[1]) for row in rows if len(row) == 2}
    cached = sum(told.get(files.total + kind, 0) for kind in CACHED)
    return (cgroups.number(group / files.used) or 0) - cached


def target_bytes(target: Target) -> int:
    """What a plan may take where it is built, loaded and run. A GPU's own memory is another matter."""
    own = None if target.compute_capability else target.memory_bytes
    return min(own or machine_bytes(), machine_bytes())


def hold(worker: Worker, target: Target) -> None:
    """Have the kernel refuse a worker more than the machine has: it fails then, and nobody is killed.

    Not where the target has a GPU: its driver reserves far more addresses than there is memory."""
    if target.compute_capability is None:
        most = machine_bytes()
        with contextlib.suppress(OSError, ValueError):  # it is gone, or held to less already
            resource.prlimit(worker.pid, resource.RLIMIT_DATA, (most, most))


def require(worker: Worker, target: Target) -> None:
    """Raise CandidateBroken where a worker has taken more than the target has."""
    used, allowed = worker.ask("memory"), target_bytes(target)
    if used > allowed:
        raise CandidateBroken(
            f"{worker.name} used {used / 1e6:.0f} MB; at most {allowed / 1e6:.0f} MB were allowed on "
            f"target {target.name!r}. What it printed: less {worker.log}"
        )
