"""A kernel's own source, run thread by thread on the CPU by Numba's CUDA simulator.

The simulator is chosen when numba is imported, so it has processes of its own. It runs two or three
thousand CUDA threads a second. Pointers keep the address that a case asks for, and an access outside
of an array is an error.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from accel.protocols import Case
from accel.values import Feed, Options

BOUNDARY = 16  # bytes: what a 128-bit access must stand on
SENTINEL = 0x5A  # of every byte of an output before the kernel runs


@dataclass(frozen=True)
class Simulated:
    """What a kernel wrote, and what it took to find out."""

    outputs: Feed
    threads: int
    seconds: float


@dataclass
class Simulator:
    """Processes that simulate; `with Simulator() as run: run("bias_gelu", "float32", case)`."""

    processes: int = 1
    _pool: Any = field(default=None, repr=False)

    def __enter__(self) -> Simulator:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.processes, context, _become_one)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, kernel: str, dtype: str, case: Case) -> Simulated:
        """Run one case; whatever the kernel raises is raised here."""
        found: Simulated = self.start(kernel, dtype, case).result()
        return found

    def start(self, kernel: str, dtype: str, case: Case) -> Any:
        """The same as a future: several run side by side."""
        return self._pool.submit(simulate, kernel, dtype, case.inputs, case.baked, case.offset)


def _become_one() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who ends this process
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    warnings.simplefilter("ignore", RuntimeWarning)  # a GPU does not warn of inf - inf either
    from accel.cuda import warps

    warps.install()


def simulate(
    kernel: str, dtype: str, inputs: Feed, baked: Options | None, offset: int
) -> Simulated:
    """In a process of the simulator: every output of the kernel, by name."""
    import math

    import numpy as np
    from numba import cuda
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    from accel import catalog

    member = catalog.load("kernels", kernel)
    chosen = member.VARIANTS[0] if baked is None else baked
    signature = member.signature(dtype, chosen)
    shapes = {name: array.shape for name, array in inputs.items()}
    sizes = member.output_shapes(shapes, chosen)
    launch = member.launch(shapes, dtype, chosen)
    given = [_placed(inputs[name], offset) for name, _ in signature.inputs]
    outputs = {name: _blank(sizes[name], kind, offset) for name, kind in signature.outputs}
    pointers = [FakeCUDAArray(bits(a)) for a in given]
    results = [FakeCUDAArray(bits(a)) for a in outputs.values()]
    scalars = [np.int32(s) for s in launch.scalars]
    start = time.perf_counter()
    with np.errstate(all="ignore"):
        cuda.jit(member.source(dtype, chosen))[launch.grid, launch.block](
            *pointers, *scalars, *results
        )
    threads = math.prod(launch.grid) * math.prod(launch.block)
    found = {name: a.reshape(sizes[name]).copy() for name, a in outputs.items()}
    return Simulated(found, threads, time.perf_counter() - start)


def _placed(array: Any, offset: int) -> Any:
    """The elements, flat, `offset` of them past a 128-bit boundary."""
    import numpy as np

    flat = np.ascontiguousarray(array).ravel()
    size = flat.dtype.itemsize
    room = np.full(flat.nbytes + 2 * BOUNDARY + offset * size, SENTINEL, np.uint8)
    start = -room.ctypes.data % BOUNDARY + offset * size
    view = room[start : start + flat.nbytes].view(flat.dtype)
    view[:] = flat
    return view


def _blank(shape: Any, dtype: str, offset: int) -> Any:
    import math

    import numpy as np

    kind = numpy_dtype(dtype)
    raw = np.full(math.prod(shape) * kind.itemsize, SENTINEL, np.uint8)
    return _placed(raw.view(kind), offset)


def numpy_dtype(name: str) -> Any:
    """numpy's dtype of that name, bfloat16 among them."""
    import ml_dtypes
    import numpy as np

    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def bits(array: Any) -> Any:
    """bfloat16 goes as uint16, bool as uint8: what the kernel's pointers are typed as."""
    import numpy as np

    if array.dtype == np.bool_:
        return array.view(np.uint8)
    return array if array.dtype.name != "bfloat16" else array.view(np.uint16)
