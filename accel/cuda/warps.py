"""Warp shuffles for Numba's CUDA simulator, which has none: lanes meet at a barrier and swap.

`install()` adds them to the simulator's `cuda` module. A lane that left the kernel early is
reported by the barrier's time limit, as a hang on a GPU would be. Shared arrays are made under a lock:
its own look and then make, so that two threads may get an array each, and one's values are lost.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from accel.cuda.geometry import WARP

MEET_S = 60.0  # the longest that a lane waits for its warp
_LOCK = threading.Lock()


def exchange(value: Any, source: Callable[[int], int]) -> Any:
    """The value of lane `source(own lane)`; a lane outside the warp gives one's own."""
    lane, held = gather(value)
    other = source(lane)
    return held[other] if 0 <= other < len(held) else value


def gather(value: Any) -> tuple[int, tuple[Any, ...]]:
    """The own lane, and what every lane of the warp brought: they meet here."""
    lane, (barrier, held) = _warp()
    held[lane] = value
    barrier.wait(MEET_S)
    found = tuple(held)
    barrier.wait(MEET_S)  # nobody may bring the next value before everyone has read this one
    return lane, found


def _warp() -> tuple[int, tuple[threading.Barrier, list[Any]]]:
    thread: Any = threading.current_thread()
    manager = thread._manager
    index, lane = divmod(thread.thread_id, WARP)
    with _LOCK:
        warps = manager.__dict__.setdefault("_accel_warps", {})
        if index not in warps:
            x, y, z = manager._block_dim
            size = min(WARP, x * y * z - WARP * index)
            warps[index] = (threading.Barrier(size), [None] * size)
        return lane, warps[index]


def _shared(self: Any, shape: Any, dtype: Any) -> Any:
    """The block's array of this line of the kernel: cuda.shared.array, where it has a size."""
    import numpy as np
    from numba.cuda.simulator.kernelapi import numpy_support, types

    frame = sys._getframe(1)
    line = frame.f_code.co_filename, frame.f_lineno
    kind = numpy_support.as_dtype(dtype) if isinstance(dtype, types.Type) else dtype
    with _LOCK:
        if line not in self._allocations:
            self._allocations[line] = np.empty(shape, kind)
        return self._allocations[line]


def install() -> None:
    """Give the simulator shfl_sync, shfl_up_sync, shfl_down_sync, shfl_xor_sync and syncwarp."""
    from numba.cuda.simulator.kernelapi import FakeCUDAModule as Fake
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    FakeCUDAShared.array = _shared

    Fake.shfl_sync = lambda _, _mask, value, lane: exchange(value, lambda _own: lane)
    Fake.shfl_up_sync = lambda _, _mask, value, by: exchange(value, lambda own: own - by)
    Fake.shfl_down_sync = lambda _, _mask, value, by: exchange(value, lambda own: own + by)
    Fake.shfl_xor_sync = lambda _, _mask, value, by: exchange(value, lambda own: own ^ by)
    Fake.syncwarp = lambda _, _mask=0: exchange(None, lambda own: own)
