"""A work folder from outside: what was kept in it, whether it is as it was written, what may go.

It asks the locks that `store.run` takes: what a running process makes or uses is left alone.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from accel import store, using
from accel.errors import UsageError
from accel.replacing import alone

PLACES = ("store", "data")  # finished steps; calibration feeds as the workload yielded them
STEP = rf"[a-z][a-z-]*-[0-9a-f]{{{store.DIGITS}}}"
UNNAMED = r"\.tmp-[a-z][a-z-]*-[0-9a-f]{32}"  # feeds that are being written: job.py
KEPT = re.compile(rf"([a-z][a-z-]*)-([0-9a-f]{{{store.DIGITS}}})(\.npz)?")
HALF = re.compile(rf"\.tmp-({STEP})(?:\.npz)?-\d+-[0-9a-f]{{6}}")
DRAFT = re.compile(rf"\.?({UNNAMED})\.npz(?:\.[0-9a-f]{{8}})?")
LOCK = re.compile(rf"(?:{STEP}|{UNNAMED})\.lock")
DAMAGED = re.compile(rf"{STEP}-[0-9a-f]{{8}}")  # in quarantine


@dataclass(frozen=True)
class Entry:
    """A finished step, or a file of feeds, as it lies on disk."""

    path: Path
    verb: str
    key: str  # how the digest of its key, or of its content, begins
    size_bytes: int
    age_s: float  # since it was last asked for


@dataclass(frozen=True)
class Checked:
    """What became of the finished steps when each was read."""

    intact: int
    damaged: dict[str, str]  # step -> what is wrong with it; it lies in quarantine now
    busy: tuple[str, ...]  # being made or read right now: not looked at


@dataclass(frozen=True)
class Pruned:
    """What was removed, and what is left."""

    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]  # would have gone, had no running process made or used them
    scrap_bytes: int  # of half-made and quarantined steps, which went first
    left_bytes: int


def places(work: Path) -> tuple[Path, ...]:
    """Where a work folder keeps things. Raises UsageError for one in which nothing was kept: a folder
    called data may be anyone's."""
    found = tuple(work / name for name in PLACES if (work / name).is_dir())
    if not any(p.name == PLACES[0] or any(map(_ours, p.iterdir())) for p in found):
        raise UsageError(
            f"{work} is no work folder: there is no {work / PLACES[0]} in it. Name the one that "
            f"accel optimize kept its steps in: --work DIR"
        )
    return found


def _ours(path: Path) -> bool:
    return any(names.fullmatch(path.name) for names in (KEPT, HALF, DRAFT, LOCK))


def entries(work: Path, now_s: float) -> tuple[Entry, ...]:
    """All that is kept, what was not asked for the longest first."""
    return _entries(places(work), now_s)


def _entries(found: tuple[Path, ...], now_s: float) -> tuple[Entry, ...]:
    every = (_entry(path, now_s) for place in found for path in sorted(place.iterdir()))
    return tuple(sorted((e for e in every if e is not None), key=lambda e: -e.age_s))


def _entry(path: Path, now_s: float) -> Entry | None:
    named = KEPT.fullmatch(path.name)
    if named is None or bool(named[3]) is not (path.parent.name == PLACES[1]):
        return None
    try:
        age_s = max(0.0, now_s - _asked_s(path))  # clocks jump back
        return Entry(path, named[1], named[2], size_bytes(path), age_s)
    except FileNotFoundError:  # it went while it was looked at
        return None


def _asked_s(path: Path) -> float:
    """When it was last asked for; of what was copied without its lock, when it was made."""
    lock = store.lock(path)
    return (lock if lock.exists() else path).stat().st_mtime


def size_bytes(path: Path) -> int:
    """Of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(p.lstat().st_size for p in files if not p.is_dir())


def verify(work: Path) -> Checked:
    """Read every finished step; what is not as it was written goes to quarantine, and is made again
    by the next run that asks for it. (Feeds are written anew by every run.)"""
    places(work)
    with alone(work):
        return _verified(work)


def _verified(work: Path) -> Checked:
    intact, damaged, busy = 0, {}, []
    for entry in entries(work, 0.0):
        if not entry.path.is_dir():
            continue
        with using.locked(store.lock(entry.path), wait=False) as lock:
            if lock is None:
                busy.append(entry.path.name)
            elif not entry.path.exists():  # a run that read it has put it into quarantine
                continue
            elif wrong := _wrong(entry.path):
                store.quarantine(entry.path)
                damaged[entry.path.name] = wrong
            else:
                intact += 1
    return Checked(intact, damaged, tuple(busy))


def _wrong(step: Path) -> str:
    try:
        store.record(step)
    except UsageError as error:
        return str(error)
    return ""


def prune(work: Path, max_bytes: float, now_s: float) -> Pruned:
    """Remove what nobody can use, then what was not asked for the longest, until all that is kept is
    at most so large. What a running process makes or uses stays."""
    found = places(work)  # a wrong word is told before anything is locked
    with alone(work):
        return _pruned(found, max_bytes, now_s)


def _pruned(found: tuple[Path, ...], max_bytes: float, now_s: float) -> Pruned:
    scrap = sum(_cleared(path) for place in found for path in _scrap(place))
    for place in found:
        _without_bare_locks(place)
    every = _entries(found, now_s)
    left = sum(e.size_bytes for e in every)
    removed, in_use = [], []
    for entry in every:
        if left <= max_bytes:
            break
        if _removed(entry.path):
            removed.append(entry)
            left -= entry.size_bytes
        else:
            in_use.append(entry)
    return Pruned(tuple(removed), tuple(in_use), scrap, left)


def _scrap(place: Path) -> Iterator[Path]:
    """Half-made steps whose process is gone, and what was quarantined."""
    for path in sorted(place.glob(".tmp-*")):
        half = HALF.fullmatch(path.name)
        if half is None:
            continue
        with using.locked(store.lock(place / half[1]), wait=False) as lock:
            if lock is not None and path.exists():  # it may be finished by now
                yield path
    yield from _drafts(place)
    lost = sorted((place / store.QUARANTINE).glob("*"))
    yield from (path for path in lost if DAMAGED.fullmatch(path.name))


def _drafts(place: Path) -> Iterator[Path]:
    """Feeds that a killed run was writing: whoever writes some holds their lock."""
    for path in sorted(place.glob(".*npz*")):
        named = DRAFT.fullmatch(path.name)
        if named is None:
            continue
        with using.locked(place / f"{named[1]}.lock", wait=False) as lock:
            if lock is not None and path.exists():
                yield path


def _without_bare_locks(place: Path) -> None:
    """A step that was never finished, or went to quarantine, leaves its lock's file."""
    for path in sorted(place.glob("*.lock")):
        if not LOCK.fullmatch(path.name):
            continue
        with using.locked(path, wait=False) as held:
            if held is not None and not any(map(Path.exists, _of_lock(path))):
                path.unlink()


def _of_lock(path: Path) -> tuple[Path, Path]:
    """What its lock may stand for: a step, or a file of feeds."""
    return path.with_suffix(""), path.with_suffix(".npz")


def _cleared(path: Path) -> int:
    size = size_bytes(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return size


def _removed(path: Path) -> bool:
    """Whether it could be: what is in use is left. Its name goes first, so that a half-removed step
    is never found."""
    lock = store.lock(path)
    with using.locked(lock, wait=False) as held:
        if held is None or path.name in using.names(path.parent):
            return False
        if path.exists():  # as above
            _cleared(path.rename(store.aside(path)))
        lock.unlink()
        return True
