"""GPU memory, streams and CUDA graphs, for engines that hold addresses themselves.

Addresses and handles are plain integers. The caller has made the device current (driver.on). What was
taken is given back by name; pinned arrays give themselves back.
(CUDA Driver API reference, 13.0: Memory Management, Stream Management, Graph Management)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accel.cuda import driver
from accel.errors import CandidateBroken
from accel.values import Refusal

DEVICE = 0
SMALLEST_BYTES = 1  # the driver refuses to allocate nothing


def allocate(nbytes: int) -> int:
    """The address of so much device memory, aligned to 256 bytes or more.

    Raises CandidateBroken with what is free, where it does not suffice."""
    api = driver.api()
    status, address = api.cuMemAlloc(max(nbytes, SMALLEST_BYTES))
    if status:
        free, total = free_and_total()
        raise CandidateBroken(
            f"The GPU has no {nbytes} bytes left: {free} of {total} are free "
            f"({driver.explain(api, status)}). Free it (nvidia-smi), or build for smaller shapes."
        )
    return int(address)


def free(address: int) -> None:
    """Give device memory back; waits for work that uses it."""
    driver.checked("freeing device memory", driver.api().cuMemFree(address))


def free_and_total() -> tuple[int, int]:
    """Bytes of the device's memory."""
    status, available, total = driver.api().cuMemGetInfo()
    driver.checked("asking for the free memory", (status,))
    return int(available), int(total)


def pinned(shape: Sequence[int], dtype: Any) -> Any:
    """An uninitialised array in page-locked host memory, which copies need to be asynchronous.

    Its memory is given back when no array or view uses it any more."""
    kind = np.dtype(dtype)
    nbytes = math.prod(shape) * kind.itemsize
    held = np.asarray(_Pinned(max(nbytes, SMALLEST_BYTES)))
    return held[:nbytes].view(kind).reshape(tuple(shape))


class _Pinned:
    """Page-locked bytes that numpy reads by the array interface, and keeps alive by it."""

    def __init__(self, nbytes: int) -> None:
        found = driver.checked("pinning memory", driver.api().cuMemHostAlloc(nbytes, 0))
        self._address = int(found)
        data = (self._address, False)
        self.__array_interface__ = {
            "data": data,
            "shape": (nbytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self) -> None:
        with contextlib.suppress(Exception), driver.on(DEVICE):  # the process may be ending
            driver.api().cuMemFreeHost(self._address)


def stream() -> int:
    """A new stream that does not wait for the default one. (CU_STREAM_NON_BLOCKING)"""
    api = driver.api()
    return int(driver.checked("making a stream", api.cuStreamCreate(1)))


def end(handle: int) -> None:
    """Give a stream back, when its work is done."""
    driver.checked("ending a stream", driver.api().cuStreamDestroy(handle))


def copy_in(address: int, array: Any, handle: int) -> None:
    """Start a copy to the device; the array is contiguous, and stays as it is until the copy is done."""
    if array.nbytes:
        answer = driver.api().cuMemcpyHtoDAsync(address, array.ctypes.data, array.nbytes, handle)
        driver.checked("copying to the GPU", answer)


def copy_out(array: Any, address: int, handle: int) -> None:
    """Start a copy from the device; the array is whole after `wait`."""
    if array.nbytes:
        answer = driver.api().cuMemcpyDtoHAsync(array.ctypes.data, address, array.nbytes, handle)
        driver.checked("copying from the GPU", answer)


def wait(handle: int) -> None:
    """Until all work on the stream is done. Raises CandidateBroken where some of it failed."""
    driver.checked("running on the GPU", driver.api().cuStreamSynchronize(handle))


def capture(handle: int, work: Callable[[], str]) -> int | Refusal:
    """What `work` starts on the stream, as a graph that `launch` replays; else why there is none.

    `work` gives "" or why it could not start. It must neither wait nor allocate. Other threads may
    (CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)."""
    api = driver.api()
    mode = api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    status = api.cuStreamBeginCapture(handle, mode)[0]
    if status:
        return Refusal("cuda_graph", f"no capture can begin: {driver.explain(api, status)}")
    problem = "it was cut short"
    try:
        problem = work()
    finally:  # a stream that goes on capturing is of no use to anybody
        status, graph = api.cuStreamEndCapture(handle)
        whole = not status and not problem
        if not whole and not status:
            api.cuGraphDestroy(graph)
    if not whole:
        return Refusal("cuda_graph", problem or driver.explain(api, status))
    return _instantiated(graph)


def _instantiated(graph: Any) -> int | Refusal:
    api = driver.api()
    status, made = api.cuGraphInstantiate(graph, 0)
    api.cuGraphDestroy(graph)
    if status:
        return Refusal("cuda_graph", f"the graph does not start: {driver.explain(api, status)}")
    return int(made)


def launch(graph: int, handle: int) -> None:
    """Start all that was captured, with the addresses of then."""
    driver.checked("replaying a graph", driver.api().cuGraphLaunch(graph, handle))


def forget(graph: int) -> None:
    """Give a graph back."""
    driver.checked("freeing a graph", driver.api().cuGraphExecDestroy(graph))
