"""Kernels ready on a device: compiled for its own compute capability, loaded, kept in memory.

Machine code is also kept on disk, under a name that tells everything it came from; ACCEL_CUBINS
names the folder, "" turns it off. The default is accel/cubin in the user's cache (XDG Base Directory
Specification 0.8).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import catalog
from accel.cuda import constants, cubin, driver, geometry, ptx, toolchain
from accel.errors import CandidateBroken, UsageError
from accel.values import Options

_LOCK = threading.RLock()
_LOADED: dict[tuple[Any, ...], Loaded] = {}


@dataclass(frozen=True)
class Loaded:
    """A kernel on one device."""

    entry: str
    function: int  # address of its CUkernel
    device: int
    compute_capability: str
    keep: Any = None  # the library that holds it


def load(
    kernel: str, dtype: str, baked: Options, device: int = 0, stream: int | None = None
) -> Loaded:
    """The kernel on a device, compiled where it is not known yet: about a second.

    Nothing is left for the first launch to do, so that one can be captured in a CUDA graph. With
    `stream`, raises UsageError where it would have to load while that stream is captured; raises
    CandidateBroken for a kernel that does not compile or load, MissingExtra without a driver."""
    key = (kernel, dtype, frozen(constants.of_code(kernel, dtype, baked)), device)
    found = _LOADED.get(key)
    if found is None:
        with _LOCK:
            found = _LOADED.get(key)
            if found is None:
                _require_outside_capture(kernel, dtype, stream)
                found = _LOADED[key] = _load(kernel, dtype, baked, device)
    return found


def frozen(baked: Options) -> tuple[tuple[str, Any], ...]:
    """Constants as a key."""
    return tuple(sorted(baked.items()))


def require_constants(kernel: str, member: Any, baked: Options) -> None:
    """Raise UsageError for a constant that the kernel does not have."""
    known = {name for variant in member.VARIANTS for name in variant}
    for name in baked:
        if name not in known:
            raise UsageError(
                f"{kernel} has no constant {name!r}. It has: {', '.join(sorted(known)) or 'none'}."
            )


def compute_capability(device: int) -> str:
    """Of a device of this machine: "9.0".

    Raises UsageError for an ordinal that is not there."""
    found = _device(device).compute_capability
    return f"{found.major}.{found.minor}"


def machine_code(kernel: str, dtype: str, baked: Options, compute_capability: str) -> bytes:
    """The cubin, from disk where it was made before from the same sources by the same tools."""
    if os.environ.get("ACCEL_CUBINS") == "":
        return _compiled(kernel, dtype, baked, compute_capability)
    path = _place(kernel, dtype, baked, compute_capability)
    if path.is_file():
        return path.read_bytes()
    made = _compiled(kernel, dtype, baked, compute_capability)
    _keep(path, made)
    return made


def kept(kernel: str, dtype: str, baked: Options, compute_capability: str) -> bool:
    """Is its machine code on disk?"""
    return _place(kernel, dtype, baked, compute_capability).is_file()


def _place(kernel: str, dtype: str, baked: Options, compute_capability: str) -> Path:
    named = os.environ.get("ACCEL_CUBINS")
    name = f"{kernel}-{_digest(kernel, dtype, baked, compute_capability)}.cubin"
    return (Path(named) if named else _cache()) / name


def _compiled(kernel: str, dtype: str, baked: Options, compute_capability: str) -> bytes:
    code, _usage = cubin.assemble(ptx.compile(kernel, dtype, baked, compute_capability))
    return code


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "accel" / "cubin"


def _keep(path: Path, made: bytes) -> None:
    """Whole or not at all; a folder that cannot be written costs a second a process, no more."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as undone:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            undone.callback(Path(file.name).unlink)
            file.write(made)
        Path(file.name).replace(path)
        undone.pop_all()


def _digest(kernel: str, dtype: str, baked: Options, compute_capability: str) -> str:
    code = frozen(constants.of_code(kernel, dtype, baked))
    words = (kernel, dtype, repr(code), compute_capability)
    return hashlib.sha256("\n".join((*words, *_origin(kernel))).encode()).hexdigest()[:32]


@functools.cache
def _origin(kernel: str) -> tuple[str, ...]:
    """The tools' versions and the sources that decide what comes out."""
    folder = catalog.ROOT / "kernels"
    own = (ptx.__file__, geometry.__file__)
    sources = (*sorted(folder.glob("_*.py")), folder / f"{kernel}.py", *map(Path, own))
    digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in sources)
    return (*(f"{k} {v}" for k, v in toolchain.versions().items()), *digests)


def _require_outside_capture(kernel: str, dtype: str, stream: int | None) -> None:
    if stream is not None and driver.capturing(stream):
        raise UsageError(
            f"{kernel} ({dtype}) is not loaded yet, and loading cannot be captured in a CUDA graph. "
            f"Call accel.cuda.launch.prepare({kernel!r}, {dtype!r}) before the capture."
        )


def _load(kernel: str, dtype: str, baked: Options, device: int) -> Loaded:
    capability = compute_capability(device)
    entry = f"accel_{kernel}_{dtype}"
    code = machine_code(kernel, dtype, baked, capability)
    from cuda.core import ObjectCode

    with driver.on(device):
        try:
            library = ObjectCode.from_cubin(code, name=entry)
            handle = library.get_kernel(entry).handle
        except Exception as error:  # cuda-core's own errors have no public name
            raise CandidateBroken(f"{entry} does not load on device {device}: {error}") from error
        # a lazily loaded function would be finished by its first launch, which a capture refuses
        function = driver.checked(entry, driver.api().cuKernelGetFunction(handle))
        driver.checked(entry, driver.api().cuFuncLoad(function))
    return Loaded(entry, int(handle), device, capability, library)


def _device(ordinal: int) -> Any:
    count = driver.checked("counting devices", driver.api().cuDeviceGetCount())
    if not 0 <= ordinal < count:
        raise UsageError(f"There is no CUDA device {ordinal}; this machine has {count}.")
    from cuda.core import Device

    return Device(ordinal)
