"""How much memory a child may take: the target's where it has a number, never more than this machine has.

A process that takes all there is has the kernel kill whoever it likes, the run itself too.
"""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

from accel.errors import CandidateBroken
from accel.measure.worker import Worker
from accel.values import Target

CGROUP = Path("/sys/fs/cgroup/memory.max")
SHARE = 0.9  # of the machine's: the rest is for the run itself, and for telling what happened


def machine_bytes() -> int:
    """What children may take of this machine, or of its container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max", and kernels without the file
        total = min(total, int(CGROUP.read_text(encoding="ascii")))
    return int(SHARE * total)


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
