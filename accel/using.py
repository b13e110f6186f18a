"""What running processes use of a store: nobody may prune it under them.

Each process has a file in `<store>/.using/` that names the steps it has asked for. It holds that
file's lock for as long as it lives: the kernel lets go of it however the process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")
FOLDER = ".using"


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[IO[bytes] | None]:
    """The lock that a file stands for; None where another has it and `wait` is False.

    A lock's file may be removed by whoever holds it: who waited for one that is gone waits for the
    next."""
    while True:
        with path.open("ab", buffering=0) as stream:  # nothing is left to write when it closes
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield None
                return
            if _still(stream, path):
                yield stream
                return


def _still(stream: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


class Using:
    """The steps that one run has asked for, in as many stores as it likes, until it is gone."""

    def __init__(self) -> None:
        self._files: dict[Path, IO[bytes]] = {}
        stack = contextlib.ExitStack()
        self._enter = stack.enter_context
        weakref.finalize(self, stack.close)

    def note(self, folder: Path) -> None:
        """This step is in use from now on. Its lock is held by the caller."""
        place = folder.parent / FOLDER
        if place not in self._files:
            self._files[place] = self._enter(_own(place))
        self._files[place].write(f"{folder.name}\n".encode())

    def enter(self, managed: contextlib.AbstractContextManager[T]) -> T:
        """Something else that ends when the run does."""
        return self._enter(managed)


@contextlib.contextmanager
def _own(place: Path) -> Iterator[IO[bytes]]:
    place.mkdir(exist_ok=True)
    path = place / uuid.uuid4().hex
    with locked(path) as stream:
        assert stream is not None  # it waits
        try:
            yield stream
        finally:
            with contextlib.suppress(OSError):  # the disk is read-only by now
                path.unlink()


def names(root: Path) -> frozenset[str]:
    """The steps that living processes use; what dead ones left is cleared."""
    found: set[str] = set()
    for path in sorted((root / FOLDER).glob("*")):
        with locked(path, wait=False) as stream:
            if stream is not None:
                path.unlink()
                continue
            with contextlib.suppress(FileNotFoundError):  # its process has just ended
                found.update(path.read_text(encoding="utf-8").split())
    return frozenset(found)
