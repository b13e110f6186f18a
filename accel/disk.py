"""Files that are whole or not there, and what a disk refuses, in words of accel's own."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from accel.errors import EnvironmentProblem, UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM)
NO_ROOM = "No usable temporary directory"
REFUSED = (*FULL, errno.EROFS)  # whoever was writing: never the fault of what was to be written


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
def guarded(place: Path, option: str = "--work or --out") -> Iterator[None]:
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


def blame(error: BaseException, place: Path | None = None) -> None:
    """Raise EnvironmentProblem where an error says that the disk of a place, or of the file that the
    error names, takes nothing: then nothing that ran there is to blame. Of permissions that holds in
    the place alone: what else an engine may not do, such as pinning a thread, is its own affair."""
    if not isinstance(error, OSError):
        return
    file = _named(error)
    denied = error.errno in DENIED and place is not None and _below(file, place)
    if error.errno in REFUSED or denied:
        where = place if denied or file is None else file.parent
        with guarded(where or temporary()):
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


def sync(folder: Path) -> None:
    """Have the disk hold every file of a folder before anything is renamed."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
