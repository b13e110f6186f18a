"""Device memory, pinned memory and a stream of one's own, by the CUDA driver alone.

ctypes on the driver's library: no torch and no cuda-core is needed to feed a runtime by pointers.
Names, arguments and the _v2 suffixes: CUDA Driver API reference, 13.0, "Memory Management",
"Stream Management", "Primary Context Management".
"""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from typing import Any

import numpy as np

from accel.errors import CandidateBroken
from accel.measure import here

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: work on the default stream does not hold it up


class Device:
    """The first GPU that this process may use, its primary context current in each thread that calls.

    ONNX Runtime and torch work in the same context (CUDA C++ Programming Guide, "Interoperability
    between Runtime and Driver APIs"), which is retained for good: pinned arrays that outlive the
    device lie in it. Every method raises CandidateBroken in the driver's words."""

    def __init__(self, library: Any = None) -> None:
        """`library`: what answers the driver's calls; the driver itself where it is not given."""
        self._cuda = library or _driver()
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._ask("cuInit", 0)
        self._ask("cuDeviceGet", ctypes.byref(device), 0)
        self._ask("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._context = context
        self._do("cuStreamCreate", ctypes.byref(stream), NON_BLOCKING)
        self._stream = stream
        self._held: set[int] = set()  # addresses on the device

    @property
    def stream(self) -> int:
        """Its handle as a number; never 0, which ONNX Runtime takes for none."""
        return int(self._stream.value or 0)

    def alloc(self, size: int) -> int:
        """The address of so many bytes on the device, one at least."""
        address = self._alloc("cuMemAlloc_v2", size)
        self._held.add(address)
        return address

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A numpy array in page-locked host memory, which copies need not stage.

        Its memory is given back when no array or view uses it any more, be the device closed."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        address = self._alloc("cuMemAllocHost_v2", size)
        room = (ctypes.c_char * max(size, 1)).from_address(address)
        weakref.finalize(room, self._unpin, address).atexit = False  # the driver may have gone
        return np.frombuffer(room, kind, size // kind.itemsize).reshape(shape)

    def _unpin(self, address: int) -> None:
        with contextlib.suppress(CandidateBroken):  # called by the collector: nobody to tell
            before = self._current()
            self._do("cuMemFreeHost", ctypes.c_void_p(address))
            if before.value != self._context.value:  # it comes between any two lines of a caller's
                self._ask("cuCtxSetCurrent", before)

    def _alloc(self, take: str, size: int) -> int:
        found = ctypes.c_void_p()
        self._do(take, ctypes.byref(found), ctypes.c_size_t(max(size, 1)))
        return int(found.value or 0)

    def free(self, address: int) -> None:
        """Give one piece of the device's memory back."""
        self._held.remove(address)
        self._do("cuMemFree_v2", ctypes.c_void_p(address))

    def send(self, address: int, array: Any) -> None:
        """A pinned array to the device, in the stream's order."""
        source, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        self._do("cuMemcpyHtoDAsync_v2", ctypes.c_void_p(address), source, size, self._stream)

    def fetch(self, array: Any, address: int) -> None:
        """From the device into a pinned array, in the stream's order."""
        target, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        self._do("cuMemcpyDtoHAsync_v2", target, ctypes.c_void_p(address), size, self._stream)

    def wait(self) -> None:
        """Until the stream has done all that it was given."""
        self._do("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Give back the memory on the device, and the stream; safe to call twice, in any thread."""
        if self._stream.value:
            for address in list(self._held):
                self.free(address)
            self._do("cuStreamDestroy_v2", self._stream)
            self._stream = ctypes.c_void_p()

    def _do(self, call: str, *words: Any) -> None:
        """A call in the context: the thread may have gone to another GPU's since the last one.

        It stays current, as ONNX Runtime leaves it, too (OnRunStart of its CUDA provider)."""
        if self._current().value != self._context.value:
            self._ask("cuCtxSetCurrent", self._context)
        self._ask(call, *words)

    def _current(self) -> ctypes.c_void_p:
        """The context that is current in this thread; none is a null pointer."""
        found = ctypes.c_void_p()
        self._ask("cuCtxGetCurrent", ctypes.byref(found))
        return found

    def _ask(self, call: str, *words: Any) -> None:
        status = getattr(self._cuda, call)(*words)
        if status:
            name = ctypes.c_char_p()
            self._cuda.cuGetErrorName(status, ctypes.byref(name))
            said = (name.value or b"").decode() or f"error {status}"
            raise CandidateBroken(f"the CUDA driver answers {call} with {said}. Run: nvidia-smi")


def _driver() -> Any:
    try:
        return ctypes.CDLL(here.LIBRARY)
    except OSError:
        raise CandidateBroken(
            f"this machine has no NVIDIA driver ({here.LIBRARY} does not load), and the plan is for "
            "a GPU. Nothing falls back: build and run on the device, or take another engine. "
            "See: accel list targets"
        ) from None
