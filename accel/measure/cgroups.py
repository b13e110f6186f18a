"""The control groups of this process: a container, a batch job or a systemd unit, and what is around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TOP = Path("/sys/fs/cgroup")
GROUPS = Path("/proc/self/cgroup")  # "0::/a/b" (v2), "4:memory:/a/b" (v1): which this process is in
V1, V2 = 1, 2


def around(controller: str) -> Iterator[tuple[Path, int]]:
    """The group of this process and those around it, with their version: one of the two has no files.

    A container may be told its path on the host, and sees nothing there but the top, which is itself."""
    lines = (line.split(":", 2) for line in text(GROUPS).splitlines() if line.count(":") > 1)
    places = {kind: path for _, kinds, path in lines for kind in kinds.split(",")}
    for kind, top, version in (("", TOP, V2), (controller, TOP / controller, V1)):
        own = top / places.get(kind, "").lstrip("/")
        yield from ((p, version) for p in (own, *own.parents) if p.is_relative_to(top))


def text(path: Path) -> str:
    """What a group's file says; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """A group's file as a number; None where it has no limit ("max", "-1") or is not there."""
    told = text(path).strip()
    return int(told) if told.isdecimal() else None
