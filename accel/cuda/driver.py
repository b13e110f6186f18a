"""The few calls of the CUDA driver that a launch needs, with errors in our words.

cuda.bindings is NVIDIA's own layer over the driver; it is imported on the first call, so that a
machine without it can say so. Names and arguments: CUDA Driver API reference, 13.0.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from typing import Any

from accel.errors import CandidateBroken, MissingExtra

NO_CONTEXT = 201  # CUDA_ERROR_INVALID_CONTEXT
DEVICE_ORDINAL = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL


@functools.cache
def api() -> Any:
    """cuda.bindings.driver.

    Raises MissingExtra where it, or the driver itself, is absent."""
    try:
        from cuda.bindings import driver

        status = driver.cuInit(0)[0]
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingExtra(
            f"No CUDA driver can be used here: {' '.join(str(error).split())[:200]} Kernels start "
            f"on an NVIDIA GPU only; without one, run: accel kernels check"
        ) from error
    if status:
        raise MissingExtra(
            f"The CUDA driver does not start: {explain(driver, status)}. Run: nvidia-smi"
        )
    return driver


def explain(driver: Any, status: Any) -> str:
    """ "CUDA_ERROR_INVALID_VALUE: invalid argument"."""
    name, text = driver.cuGetErrorName(status)[1], driver.cuGetErrorString(status)[1]
    return ": ".join(word.decode() for word in (name, text) if word) or str(status)


def checked(what: str, answer: tuple[Any, ...]) -> Any:
    """The driver's answer without its status.

    Raises CandidateBroken when the status is an error."""
    status, *rest = answer
    if status:
        raise CandidateBroken(f"{what}: the driver says {explain(api(), status)}")
    return rest[0] if rest else None


def current_device() -> int | None:
    """The ordinal of the calling thread's device; None when the thread has none yet."""
    status, device = api().cuCtxGetDevice()
    return None if status else int(device)


@contextlib.contextmanager
def on(device: int) -> Iterator[None]:
    """The device's primary context for the calling thread, and afterwards what was there before."""
    if current_device() == device:
        yield
        return
    checked("entering a device", api().cuCtxPushCurrent(_primary(device)))
    try:
        yield
    finally:
        api().cuCtxPopCurrent()


@functools.cache
def _primary(device: int) -> Any:
    """The context that the runtime, and with it torch, uses as well; retained for good."""
    found = checked("finding a device", api().cuDeviceGet(device))
    return checked("starting a device", api().cuDevicePrimaryCtxRetain(found))


def owner(pointer: int) -> int:
    """The device that an address belongs to; -1 for one that the driver does not know."""
    found = ctypes.c_int(-1)
    question = ctypes.byref(found), DEVICE_ORDINAL, ctypes.c_void_p(pointer)
    status = _asked()(*question)
    if status == NO_CONTEXT:  # a thread that has not yet worked on a GPU may not ask
        with on(0):
            status = _asked()(*question)
    return -1 if status else found.value


@functools.cache
def _asked() -> Any:
    """The driver's own function: cuda.bindings 13.2 and 13.3 answer 0 for every device."""
    api()
    return ctypes.CDLL("libcuda.so.1").cuPointerGetAttribute


def capturing(stream: int) -> bool:
    """Is a graph being captured on this stream, or so that this stream cannot be asked?"""
    status, found = api().cuStreamIsCapturing(stream)
    return bool(status) or int(found) != 0
