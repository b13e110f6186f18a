"""What is tried next when a build runs out of memory: pure.

The builder's own words are "Try decreasing the workspace size" (NVIDIA/TensorRT #3355, #2643); in #4360
it was a smaller workspace that helped where a lower optimization level did not. So the workspace goes
first, then the level, whose lower ones try fewer and smaller tactics, then what the cache remembers.
Before all that goes the room above the requested shapes, which memory is set aside for as well.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARE = 0.8  # of the free memory: the network's own weights and activations need a part too
SHARED_SHARE = 0.5  # where processor and GPU share one memory (Jetson): the builder's host side too
LEAST_BYTES = 16 << 20  # below this most convolutions have no tactic left
LEVELS = range(6)  # IBuilderConfig.builder_optimization_level
LEVEL = 3  # its default


@dataclass(frozen=True)
class Rung:
    """One attempt: in words, and what is set."""

    name: str
    divisor: int  # of the workspace that fits
    level: int
    cache: bool = True  # False: no timing that an earlier build left is used
    room: bool = False  # True: for shapes above those that were requested


def rungs(level: int = LEVEL, room: bool = False) -> tuple[Rung, ...]:
    """As asked, then down; the last of them is worth a wait only because nothing else is left."""
    lower = max(0, level - 2)
    found = [Rung("as asked", 1, level, room=room)]
    if room:
        found.append(Rung("no room above the requested shapes", 1, level))
    found.append(Rung("a quarter of the workspace", 4, level))
    found.append(Rung("a sixteenth of the workspace", 16, level))
    if lower < level:
        found.append(Rung(f"optimization level {lower}", 4, lower))
    found.append(Rung("optimization level 0, without the timing cache", 4, 0, False))
    return tuple(found)


def workspace(free_bytes: int, shared: bool, asked: int | None = None, divisor: int = 1) -> int:
    """Bytes of scratch memory that fit into what is free at this moment, in whole MiB."""
    fits = int(free_bytes * (SHARED_SHARE if shared else SHARE))
    size = min(fits, asked) if asked else fits
    return max(LEAST_BYTES, size // divisor >> 20 << 20)
