"""Content-addressed steps: written once, atomically, verified when read, resumed after anything.

A step is a folder `<verb>-<key>` with the files that it made and `record.json`: its value, its
key in full, a digest of every file, and a seal on all three. It is built under a temporary name and renamed when all of
it is on disk, so a folder with the final name is whole. One that does not verify is moved to
`quarantine/` and made again. Two processes that want one step: the second waits, then reads it.
When it was last asked for is the time of its lock's file (see `accel.cache`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from accel import itself, manifest
from accel.errors import EnvironmentProblem, UsageError
from accel.using import Using, locked

T = TypeVar("T")
RECORD, QUARANTINE = "record.json", "quarantine"
DIGITS = 20  # of a key's digest in a folder's name: 80 bits
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM)
NO_ROOM = "No usable temporary directory"
REFUSED = (*FULL, errno.EROFS)  # whoever was writing: never the fault of what was to be written


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
    with disk(root):
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


def write(path: Path, content: str | bytes, draft: Path | None = None) -> None:
    """Write a whole file or nothing."""
    with writing(path, draft) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing(path: Path, draft: Path | None = None) -> Iterator[IO[bytes]]:
    """A file that is there when the block ends well, whole, or not at all: temporary name, fsync, rename.
    `draft`: the folder for what is not finished, on the same disk; else beside it."""
    temporary = (draft or path.parent) / f".{path.name}.{uuid.uuid4().hex[:8]}"
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk(place: Path, option: str = "--work or --out") -> Iterator[None]:
    """Turn the disk's refusals into one error that names the place and the next command; `option`:
    what chose the place."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            free = shutil.disk_usage(_existing(place)).free
            raise EnvironmentProblem(
                f"The disk of {place} is full, or a limit on file sizes is reached ({free / 1e6:.0f} MB "
                f"free). Finished steps are kept: free some room and run the same command again."
            ) from None
        where = _refusing(error, place)
        if error.errno in (*DENIED, errno.EROFS):
            shut = os.access(where, os.F_OK) and not os.access(where, os.R_OK)
            raise EnvironmentProblem(
                f"{where} cannot be {'read' if shut else 'written'} ({error.strerror}). Change its "
                f"permissions, or choose another place with {option}."
            ) from None
        if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
            raise UsageError(f"{where}: {error.strerror}. Choose another with {option}.") from None
        what = f"{error.filename or place}: {error.strerror or error}"
        raise EnvironmentProblem(f"{what}. The machine refused it; look at that place.") from error


def blame_the_disk(error: BaseException, place: Path | None = None) -> None:
    """Raise EnvironmentProblem where an error says that the disk of a place, or of the file that the
    error names, takes nothing: then nothing that ran there is to blame. Of permissions that holds in
    the place alone: what else an engine may not do, such as pinning a thread, is its own affair."""
    if not isinstance(error, OSError):
        return
    file = _named(error)
    denied = error.errno in DENIED and place is not None and _below(file, place)
    if error.errno in REFUSED or denied:
        where = place if denied or file is None else file.parent
        with disk(where or temporary()):
            raise error
    if str(error.strerror).startswith(NO_ROOM):  # tempfile tries to write before it answers
        raise EnvironmentProblem(
            f"{error.strerror}: their disks are full, or cannot be written. Free some room, or name "
            f"another folder in TMPDIR, and run the same command again."
        )


def probe(folder: Path) -> None:
    """Make a folder, and see that it takes a file, of which nothing stays. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


def _refusing(error: OSError, place: Path) -> Path:
    """What the user knows of it: the place, where the error names a draft that never came to be."""
    file, known = _named(error), place.absolute()
    if file is None or os.path.lexists(file):
        return file or place
    return place if _below(file, known) or file.absolute().parent == known.parent else file


def _named(error: OSError) -> Path | None:
    name = error.filename  # a file that was opened by its number has none
    return Path(os.fsdecode(name)) if isinstance(name, (str, bytes)) and name else None


def _below(file: Path | None, folder: Path) -> bool:
    return file is not None and file.absolute().is_relative_to(folder.absolute())


def temporary() -> Path:
    """Where tempfile writes: TMPDIR, or what it fell back to where that is no folder."""
    with suppress(FileNotFoundError):  # no place takes a byte: who writes there is told so
        return Path(tempfile.gettempdir())
    return Path("/tmp")


def _existing(place: Path) -> Path:
    every = (place.absolute(), *place.absolute().parents)
    return next(p for p in every if os.access(p, os.F_OK))  # Path.exists may raise


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
        write(temporary / RECORD, json.dumps({**told, "seal": seal(told)}, indent=1))
        sync(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return value


def aside(folder: Path) -> Path:
    """A name beside a step's for what is not finished: nobody takes it for the step."""
    return folder.parent / f".tmp-{folder.name}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def sync(folder: Path) -> None:
    """Have the disk hold every file of a folder before anything is renamed."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
