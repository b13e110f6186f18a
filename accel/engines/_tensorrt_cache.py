"""Timings of tactics, kept from build to build: one file per GPU, driver and TensorRT.

It lies in $ACCEL_TIMING_CACHE, else in $XDG_CACHE_HOME/accel/tensorrt, else in ~/.cache/accel/tensorrt.
A build that finds a layer there neither times it again nor picks another tactic for it (TensorRT
documentation, Optimizing Builder Performance). Every plan has a copy, so a release ships it. Several
builds may write: each adds its entries to what is there, under a lock, and replaces the file whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accel import disk
from accel.engines._tensorrt_identity import Identity
from accel.errors import UsageError

VARIABLE = "ACCEL_TIMING_CACHE"
SHIPPED = "timing.cache"  # the copy in a plan


def place(identity: Identity) -> Path:
    """The file of timings for this GPU, driver and TensorRT; it need not be there."""
    asked, home = os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME")
    folder = Path(asked) if asked else Path(home or Path.home() / ".cache") / "accel" / "tensorrt"
    words = (identity.gpu, f"sm{identity.sm}", f"cuda{identity.driver}", f"trt{identity.tensorrt}")
    return folder / (re.sub(r"[^A-Za-z0-9.]+", "-", "_".join(words)) + ".cache")


def begin(identity: Identity, asked: str | None) -> bytes:
    """What a build starts from: the file that was asked for, else this machine's.

    Raises UsageError for a file that was asked for and is not there."""
    if asked and not Path(asked).is_file():
        raise UsageError(f"timing_cache: {asked} is not a file. A release has engine/{SHIPPED}.")
    return read(Path(asked) if asked else place(identity))


def read(path: Path) -> bytes:
    """What is there; nothing where there is no file, or none that can be read."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def digest(content: bytes) -> str:
    """sha256, empty for nothing."""
    return hashlib.sha256(content).hexdigest() if content else ""


def attach(config: Any, content: bytes) -> bool:
    """Give a build these timings; nothing, b"", starts an empty cache.

    False where TensorRT refuses them, as it does those of another GPU or version: the cache is then
    an empty one. (NVIDIA/TensorRT #2144: forced, such timings fail the build later.)"""
    cache = config.create_timing_cache(serialized_timing_cache=content)
    if cache is not None and config.set_timing_cache(cache=cache, ignore_mismatch=False):
        return True
    empty = config.create_timing_cache(serialized_timing_cache=b"")
    config.set_timing_cache(cache=empty, ignore_mismatch=False)
    return False


def taken(config: Any) -> bytes:
    """The timings after a build, its own among them."""
    cache = config.get_timing_cache()
    return b"" if cache is None else bytes(cache.serialize())


def keep(config: Any, path: Path) -> str:
    """Add a build's timings to the file: its name, or why it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_suffix(".lock")):
            others, mine = read(path), config.get_timing_cache()
            if others:
                there = config.create_timing_cache(serialized_timing_cache=others)
                if there is not None:
                    mine.combine(input_cache=there, ignore_mismatch=False)
            disk.write(path, bytes(mine.serialize()))
    except OSError as error:
        return f"{path} cannot be written ({error.strerror}): set {VARIABLE} to another folder"
    return path.name


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
