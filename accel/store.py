"""Content-addressed steps: written once, atomically, verified when read, resumed after anything.

A step is a folder `<verb>-<key>` with the files that it made and `record.json`: its value, its
key in full, and a digest of every file. It is built under a temporary name and renamed when all of
it is on disk, so a folder with the final name is whole. One that does not verify is moved to
`quarantine/` and made again. Two processes that want one step: the second waits, then reads it.
"""

from __future__ import annotations

import errno
import fcntl
import functools
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
from typing import IO, Any, Generic, TypeVar

from accel import manifest
from accel.errors import EnvironmentProblem, UsageError

T = TypeVar("T")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ABOVE_THE_STEPS = {
    "cli.py",
    "cli_bless.py",
    "cli_calibrate.py",
    "cli_explain.py",
    "causes",
    "explaining",
    "cli_gate.py",
    "cli_bench.py",
    "cli_inspect.py",
    "cli_kernels.py",
    "cli_steps.py",
    "cli_ledger.py",
    "cli_release.py",
    "shell.py",
    "plain.py",
    "terminal.py",
    "questions",
    "report",
    "pipeline.py",
    "stages.py",
    "scoring.py",
    "certifying.py",
    "deciding.py",
    "finishing.py",
    "mending.py",
    "unmeasured.py",
    "naming.py",
    "unfinished.py",
    "search.py",
    "roofline",
    "constraints.py",
    "testing.py",
    "pytest_plugin.py",
    "pytest_gate.py",
}


@dataclass(frozen=True)
class Step(Generic[T]):
    """A finished step: its value, and whether it was already there."""

    value: T
    folder: Path
    reused: bool
    seconds: float


def run(
    root: Path, verb: str, key: Mapping[str, Any], kind: type[T], make: Callable[[Path], T]
) -> Step[T]:
    """The value of a step: read back when an earlier run finished it, else made by `make(folder)`.

    `key` must hold everything that the result depends on; accel's own source is added here.
    Raises EnvironmentProblem when the disk is full or not writable."""
    with disk(root):
        full = {"verb": verb, "accel": source_digest(), **key}
        folder = root / f"{verb}-{digest_json(full)[:20]}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_suffix(".lock")):
            start = time.monotonic()
            found = _read(folder, kind)
            if found is not None:
                return Step(found, folder, True, time.monotonic() - start)
            value = _make(folder, full, make)
            return Step(manifest.load(kind, value, folder), folder, False, time.monotonic() - start)


def digest_json(data: Any) -> str:
    """sha256 of the canonical JSON text."""
    return hashlib.sha256(manifest.text(data).encode()).hexdigest()


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


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing."""
    with writing(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there when the block ends well, whole, or not at all: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@functools.cache
def source_digest() -> str:
    """Digest of accel's own Python source: a changed tool never reuses an old result.

    What only asks, prints or arranges steps cannot change a step's result and is left out."""
    total = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.partition("/")[0] not in ABOVE_THE_STEPS:
            total.update(name.encode() + path.read_bytes())
    return total.hexdigest()[:20]


@contextmanager
def disk(place: Path) -> Iterator[None]:
    """Turn the disk's refusals into one error that names the place and the next command."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            free = shutil.disk_usage(_existing(place)).free
            raise EnvironmentProblem(
                f"The disk of {place} is full, or a limit on file sizes is reached ({free / 1e6:.0f} MB "
                f"free). Finished steps are kept: free some room and run the same command again."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise EnvironmentProblem(
                f"{error.filename or place} cannot be written ({error.strerror}). "
                f"Choose another folder with --work or --out."
            ) from None
        if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
            raise UsageError(
                f"{error.filename or place}: {error.strerror}. Choose another with --work or --out."
            ) from None
        what = f"{error.filename or place}: {error.strerror or error}"
        raise EnvironmentProblem(f"{what}. The machine refused it; look at that place.") from error


def _existing(place: Path) -> Path:
    return next(p for p in (place.absolute(), *place.absolute().parents) if p.exists())


def _read(folder: Path, kind: type[T]) -> T | None:
    if not folder.is_dir():
        return None
    try:
        record = manifest.read(folder / "record.json")
        actual = digest_files(folder)
        actual.pop("record.json")
        if actual != record["files"]:
            raise UsageError("its files differ from their digests")
        return manifest.load(kind, record["value"], folder)
    except (UsageError, KeyError, TypeError):
        _quarantine(folder)
        return None


def _quarantine(folder: Path) -> None:
    place = folder.parent / "quarantine"
    place.mkdir(exist_ok=True)
    folder.rename(place / f"{folder.name}-{uuid.uuid4().hex[:8]}")


def _make(folder: Path, key: Mapping[str, Any], make: Callable[[Path], Any]) -> Any:
    for left in folder.parent.glob(f".tmp-{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)  # of a killed process: the caller holds the lock
    temporary = folder.parent / f".tmp-{folder.name}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    temporary.mkdir()
    try:
        value = manifest.dump(make(temporary), temporary)
        record = {"key": key, "value": value, "files": digest_files(temporary)}
        write(temporary / "record.json", json.dumps(manifest.dump(record), indent=1))
        sync(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return value


def sync(folder: Path) -> None:
    """Have the disk hold every file of a folder before anything is renamed."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process makes a step; a second one waits and then reads it."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
