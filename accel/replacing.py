"""A folder put in the place of another in one step: whole, or what stood there before."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(out: Path, may_replace: Callable[[Path], None]) -> Iterator[Path]:
    """A folder beside `out` to write into; when the block ends well, it stands at `out`.

    `may_replace` raises for what must be kept; it is asked again at the end, for what came since.
    What a killed process left is cleared first. Of two processes the later one stands."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent / f".{out.name}.packing-{uuid.uuid4().hex[:12]}"
    with alone(out.parent):
        _sweep(out)
        may_replace(out)
        folder.mkdir()
        held = _locked(folder)  # others see by it that this one is at work, also from a container
    try:
        yield folder
        with alone(out.parent):
            may_replace(out)
            _place(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The lock of a folder itself: no file is left behind, and it ends with its process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _locked(folder: Path) -> int:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _sweep(out: Path) -> None:
    """What ends with ~ stands there under the lock of the folder alone: its process is gone."""
    for left in sorted(out.parent.glob(f".{glob.escape(out.name)}.packing-*"), reverse=True):
        try:
            held = _locked(left)
        except BlockingIOError:
            continue  # another one, still at work
        try:
            if left.name.endswith("~") and not out.exists():
                left.rename(out)  # killed between the two renames of `_place`: the old one is whole
            else:
                shutil.rmtree(left)
        finally:
            os.close(held)


def _place(folder: Path, out: Path) -> None:
    aside = folder.with_name(f"{folder.name}~")
    if out.exists():
        out.rename(aside)
    folder.rename(out)
    shutil.rmtree(aside, ignore_errors=True)
