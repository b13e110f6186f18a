"""Starting a kernel of kernels/ on the caller's stream, on memory that it does not copy.

    y = run("bias_gelu", {"x": x, "bias": bias})["y"]
    go = bind("bias_gelu", {"x": x, "bias": bias}, {"y": y})   # go() starts it again

Arrays are torch tensors, or objects with `__cuda_array_interface__` or `__dlpack__`. Nothing here
waits for the GPU. What depends on sizes and dtypes is worked out once and kept; after that a call
reads addresses, packs them and asks the driver.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Mapping
from typing import Any

from accel import catalog
from accel.cuda import driver, loading, plans, ptx, views
from accel.cuda.loading import Loaded
from accel.cuda.plans import Plan
from accel.errors import UsageError
from accel.values import Options

MOST_PLANS = 4096  # kept; sizes that never come again would fill the memory
_PLANS: dict[tuple[Any, ...], Plan] = {}

Arrays = Mapping[str, Any]


def prepare(kernel: str, dtype: str, baked: Options | None = None, device: int = 0) -> Loaded:
    """Compile and load, so that the first launch can be captured in a CUDA graph.

    Raises UsageError for a dtype, constant or device that is not there, else as `run` does."""
    member = catalog.load("kernels", kernel)
    ptx.require_dtype(kernel, member, dtype)
    constants = member.VARIANTS[0] if baked is None else baked
    loading.require_constants(kernel, member, constants)
    return loading.load(kernel, dtype, constants, device)


def run(
    kernel: str,
    inputs: Arrays,
    outputs: Arrays | None = None,
    baked: Options | None = None,
    stream: Any = None,
    dtype: str | None = None,
) -> dict[str, Any]:
    """Start the kernel once; its outputs by name: those given, else new torch tensors.

    `baked` are its compiled-in constants (its first variant when None); `dtype` what it is generic
    over, needed only where the arrays do not tell; `stream` an address, or a stream of torch, CuPy,
    Numba or cuda-core: when None, torch's current one for torch tensors, else the default stream.
    The caller orders work of other streams, except that a DLPack producer is asked to.

    Raises UsageError for arrays that the kernel does not take, CandidateBroken when it does not
    compile, load or start, MissingExtra where there is no driver."""
    address = stream_address(stream, inputs)
    plan, values, results = _planned(kernel, inputs, outputs, baked, dtype, address)
    if not plan.empty:
        _start(plan, (values, plan.types), address)
    return results


def bind(
    kernel: str,
    inputs: Arrays,
    outputs: Arrays | None = None,
    baked: Options | None = None,
    stream: Any = None,
    dtype: str | None = None,
) -> Bound:
    """The same launch as a function without arguments: for loops, timing and CUDA graphs.

    Arguments and errors as `run`; nothing is started yet. For torch tensors and no `stream`, each
    call takes torch's current stream of that moment, which is how a capture finds it."""
    address = stream_address(stream, inputs)
    plan, values, results = _planned(kernel, inputs, outputs, baked, dtype, address)
    follows = stream is None and any(map(views.is_torch, inputs.values()))
    return Bound(plan, values, results, None if follows else address, (dict(inputs), stream))


class Bound:
    """A launch with its addresses; a call starts it and gives the outputs."""

    def __init__(
        self,
        plan: Plan,
        values: tuple[int, ...],
        outputs: dict[str, Any],
        address: int | None,
        keep: Any,
    ) -> None:
        self.plan, self.outputs = plan, outputs
        self._address, self._keep = address, keep
        self._values = [kind(value) for kind, value in zip(plan.types, values, strict=True)]
        places = [ctypes.addressof(value) for value in self._values]
        self._places = (ctypes.c_void_p * len(places))(*places)  # what the driver reads
        self._parameters = ctypes.addressof(self._places)

    def __call__(self) -> dict[str, Any]:
        if not self.plan.empty:
            address = self._address
            if address is None:
                address = _torch_stream(self.plan.loaded.device)
            _start(self.plan, self._parameters, address)
        return self.outputs


def _planned(
    kernel: str,
    inputs: Arrays,
    outputs: Arrays | None,
    baked: Options | None,
    dtype: str | None,
    address: int,
) -> tuple[Plan, tuple[int, ...], dict[str, Any]]:
    """The plan, its parameters in order, the outputs by name."""
    seen = [views.of(array, address) for array in inputs.values()]
    given = [views.of(array, address) for array in outputs.values()] if outputs else []
    names = (*inputs, None, *outputs) if outputs is not None else (*inputs,)
    constants = None if baked is None else loading.frozen(baked)
    key = (kernel, dtype, constants, names, *[v[1] for v in seen], *[v[1] for v in given])
    plan = _PLANS.get(key)
    if plan is None:
        plan = plans.make(
            kernel,
            dtype,
            baked,
            {name: facts for name, (_, facts) in zip(inputs, seen, strict=True)},
            None
            if outputs is None
            else {name: facts for name, (_, facts) in zip(outputs, given, strict=True)},
            address,
        )
        if len(_PLANS) >= MOST_PLANS:
            _PLANS.clear()
        _PLANS[key] = plan
    if outputs is None:
        outputs = _allocated(plan, address)
        given = [views.of(array) for array in outputs.values()]
    values = (
        *[seen[i][0] for i in plan.inputs_at],
        *plan.scalars,
        *[given[i][0] for i in plan.outputs_at],
    )
    return plan, values, dict(outputs)


def _start(plan: Plan, parameters: Any, address: int) -> None:
    """`parameters`: values with their types, or the address of an array of their addresses."""
    api, loaded = driver.api(), plan.loaded
    status, device = api.cuCtxGetDevice()
    if not status and int(device) == loaded.device:
        answer = api.cuLaunchKernel(loaded.function, *plan.geometry, 0, address, parameters, 0)
    else:
        with driver.on(loaded.device):
            answer = api.cuLaunchKernel(loaded.function, *plan.geometry, 0, address, parameters, 0)
    if answer[0]:
        driver.checked(f"starting {loaded.entry} with {plan.geometry}", answer)


def _allocated(plan: Plan, address: int) -> dict[str, Any]:
    """New torch tensors, from the pool of the launch's stream: another's may still be in use."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise catalog.missing(f"{plan.kernel} without given outputs", error) from None
    device = _torch_device(plan.loaded.device)
    if address != _torch_stream(plan.loaded.device):
        with torch.cuda.stream(torch.cuda.ExternalStream(address, device)):
            return _empty(torch, plan, device)
    return _empty(torch, plan, device)


def _empty(torch: Any, plan: Plan, device: Any) -> dict[str, Any]:
    return {
        name: torch.empty(shape, dtype=getattr(torch, kind), device=device)
        for name, kind, shape in plan.outputs
    }


@functools.cache
def _torch_device(ordinal: int) -> Any:
    import torch

    return torch.device("cuda", ordinal)


def stream_address(stream: Any, inputs: Arrays) -> int:
    """A stream's handle; for None the one that the inputs are ordered by.

    Raises UsageError for what is no stream."""
    if stream is None:
        for array in inputs.values():
            if views.is_torch(array):
                return _torch_stream(array.get_device())
        return 0
    if isinstance(stream, int):
        return stream
    for attribute in ("cuda_stream", "ptr"):  # torch, CuPy
        found = getattr(stream, attribute, None)
        if isinstance(found, int):
            return found
    if hasattr(stream, "__cuda_stream__"):  # cuda-core's protocol: (version, handle)
        return int(stream.__cuda_stream__()[1])
    raise UsageError(
        f"A {type(stream).__name__} is no stream. Pass its address, or a stream of torch, CuPy, "
        f"Numba or cuda-core."
    )


def _torch_stream(device: int) -> int:
    """Torch's current stream on a device; 0 for a tensor in the host's memory, refused later."""
    if device < 0:
        return 0
    found: int = sys.modules["torch"]._C._cuda_getCurrentRawStream(device)
    return found
