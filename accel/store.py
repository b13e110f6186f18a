"""Content-addressed steps: written once, atomically, verified when read, resumed after anything.

A step is a folder `<verb>-<key>` with the files that it made and `record.json`: its value, its
key in full, a digest of every file, and a seal on all three. It is built under a temporary name and renamed when all of
it is on disk, so a folder with the final name is whole. One that does not verify is moved to
`quarantine/` and made again. Two processes that want one step: the second waits, then reads it.
When it was last asked for is the time of its lock's file (see `accel.cache`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from accel import disk, itself, manifest
from accel.errors import UsageError
from accel.using import Using, locked

T = TypeVar("T")
RECORD, QUARANTINE = "record.json", "quarantine"
DIGITS = 20  # of a key's digest in a folder's name: 80 bits


@dataclass(frozen=True)
class Step(Generic[T]):
    """A finished step: its value, and whether it was already there."""

    value: T
    folder: Path
    reused: bool
    seconds: float
    damaged: str = ""  # what was wrong with the one that stood there, and lies in quarantine/ now


def run(
    root: Path,
    verb: str,
    key: Mapping[str, Any],
    kind: type[T],
    make: Callable[[Path], T],
    using: Using | None = None,
) -> Step[T]:
    """The value of a step: read back when an earlier run finished it, else made by `make(folder)`.

    `key` must hold everything that the result depends on; accel's own source is added here.
    `using`: the run that needs the step's files for longer than this call.
    Raises EnvironmentProblem when the disk is full or not writable."""
    with disk.guarded(root):
        full = {"verb": verb, "accel": itself.digest(), **key}
        folder = root / name(full)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with asked(folder, using):
            start = time.monotonic()
            found, damaged = _read(folder, full, kind)
            if found is not None:
                return Step(found, folder, True, time.monotonic() - start)
            made = manifest.load(kind, _make(folder, full, make), folder)
            return Step(made, folder, False, time.monotonic() - start, damaged)


def name(key: Mapping[str, Any]) -> str:
    """What the folder of a step with this key, its verb included, is called."""
    return f"{key['verb']}-{digest_json(key)[:DIGITS]}"


def lock(path: Path) -> Path:
    """The file whose lock is a step's, or another kept thing's."""
    return path.with_suffix(".lock")


@contextmanager
def asked(path: Path, using: Using | None) -> Iterator[None]:
    """Its lock, with a note of when it was last asked for, and by whom."""
    with locked(lock(path)):
        os.utime(lock(path))
        if using is not None:
            using.note(path)
        yield


def digest_json(data: Any) -> str:
    """sha256 of the canonical JSON text, in which NaN and the infinities differ from no value."""
    return hashlib.sha256(manifest.text(manifest.exact(data)).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_files(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by relative path."""
    return {
        p.relative_to(folder).as_posix(): digest_file(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def record(folder: Path) -> Mapping[str, Any]:
    """What a finished step tells of itself: its key, its value, its files.

    Raises UsageError, with what is wrong, for one that is not as it was written."""
    try:
        told: Mapping[str, Any] = manifest.read(folder / RECORD)
        if "seal" not in told:
            raise UsageError("its record has no seal: an older accel made it, or it was cut")
        if told["seal"] != seal(told):
            raise UsageError("its record differs from its seal")
        actual = digest_files(folder)
        actual.pop(RECORD)
        if actual != told["files"]:
            raise UsageError(f"it differs from its digests in {_differing(actual, told['files'])}")
        if folder.name != name(told["key"]):
            raise UsageError("its record is another step's")
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"its record is not whole: {error}") from None
    return told


def seal(told: Mapping[str, Any]) -> str:
    """Digest of what a record says: of a number in it no file's digest tells."""
    return digest_json([told["key"], told["value"], told["files"]])


def _differing(actual: Mapping[str, str], told: Mapping[str, str]) -> str:
    unlike = sorted(n for n in actual.keys() | told.keys() if actual.get(n) != told.get(n))
    return ", ".join(unlike[:3]) + (f" and {len(unlike) - 3} more" if len(unlike) > 3 else "")


def _read(folder: Path, key: Mapping[str, Any], kind: type[T]) -> tuple[T | None, str]:
    """The value of a finished step; None where there is none, and why one that was there is not it."""
    if not folder.is_dir():
        return None, ""
    try:
        told = record(folder)
        if digest_json(told["key"]) != digest_json(key):  # the name holds a part of it
            raise UsageError("its key is another's")
        return manifest.load(kind, told["value"], folder), ""
    except (UsageError, KeyError, TypeError, ValueError, AttributeError) as error:
        quarantine(folder)
        return None, str(error)


def quarantine(folder: Path) -> Path:
    """Move a damaged step away, for people to look at; where it lies now."""
    place = folder.parent / QUARANTINE
    place.mkdir(exist_ok=True)
    return folder.rename(place / f"{folder.name}-{uuid.uuid4().hex[:8]}")


def _make(folder: Path, key: Mapping[str, Any], make: Callable[[Path], Any]) -> Any:
    for left in folder.parent.glob(f".tmp-{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)  # of a killed process: the caller holds the lock
    temporary = aside(folder)
    temporary.mkdir()
    try:
        value = manifest.dump(make(temporary), temporary)
        told = {"key": manifest.exact(key), "value": value, "files": digest_files(temporary)}
        disk.write(temporary / RECORD, json.dumps({**told, "seal": seal(told)}, indent=1))
        disk.sync(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return value


def aside(folder: Path) -> Path:
    """A name beside a step's for what is not finished: nobody takes it for the step."""
    return folder.parent / f".tmp-{folder.name}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
