"""Arrays in GPU memory as a kernel needs them: address, sizes, dtype, device. Nothing is copied.

Three kinds are read: torch tensors, `__cuda_array_interface__` (version 3 of Numba's description;
CuPy, Numba) and DLPack (version 1 of the array API's; JAX and others). Torch is never imported here.
"""

from __future__ import annotations

import sys
from typing import Any

from accel.cuda import driver
from accel.errors import MissingExtra, UsageError

_KINDS: dict[Any, bool] = {}  # class -> is it torch's: asked six times a launch
LEGACY_STREAM = 1  # what DLPack calls the stream whose handle is 0
TYPES = {"f": "float", "i": "int", "u": "uint", "b": "bool", "V": "bfloat"}


# (sizes, dtype, ordinal or -1 for the host, contiguous, writable): what a launch is checked by
Facts = tuple[Any, Any, int, bool, bool]
View = tuple[int, Facts]  # the address first; a plain tuple, since a launch makes several


def of(array: Any, stream: int = 0) -> View:
    """The view of one array; a DLPack producer orders its own work before `stream`.

    Raises UsageError for what is none of the three kinds, or is not given."""
    if is_torch(array):
        contiguous = array.is_contiguous()
        facts = (array.shape, array.dtype, array.get_device(), contiguous, True)
        return array.data_ptr(), facts
    if hasattr(array, "__cuda_array_interface__"):
        return _cuda_array(array.__cuda_array_interface__)
    if hasattr(array, "__dlpack__"):
        return _dlpack(array, stream)
    raise UsageError(
        f"A {type(array).__name__} has no GPU memory to read. Pass a torch tensor, or an array with "
        f"__cuda_array_interface__ or __dlpack__."
    )


def is_torch(array: Any) -> bool:
    """Is it a torch tensor? Where torch was never imported there are none."""
    kind = type(array)
    found = _KINDS.get(kind)
    if found is None:
        torch = sys.modules.get("torch")
        found = torch is not None and isinstance(array, torch.Tensor)
        _KINDS[kind] = found
    return found


def dtype_name(dtype: Any) -> str:
    """numpy's name of a dtype of torch, of numpy, or of a description: "float32", "bfloat16"."""
    return str(getattr(dtype, "name", dtype)).removeprefix("torch.")


def refusal(facts: Facts) -> str:
    """Why a kernel cannot take such an array, whatever the kernel; empty when it can."""
    _, _, device, contiguous, _ = facts
    if device < 0:
        return "is in the host's memory; move it to the GPU first, as x.cuda() does"
    if not contiguous:
        return "is not contiguous; pass x.contiguous()"
    return ""


def _cuda_array(said: Any) -> View:
    pointer, readonly = said["data"]
    shape = tuple(said["shape"])
    kind = said["typestr"]
    if kind[0] == ">" or kind[1] not in TYPES:
        raise UsageError(f"The dtype {kind!r} is none that a kernel takes.")
    size = int(kind[2:])
    dtype = "bool" if kind[1] == "b" else f"{TYPES[kind[1]]}{size * 8}"
    strides = said.get("strides")
    contiguous = strides is None or _contiguous(shape, strides, size)
    # an array without elements has no address: it lies where the caller is
    device = (driver.current_device() or 0) if 0 in shape else driver.owner(pointer)
    return pointer, (shape, dtype, device, contiguous, not readonly)


def _dlpack(array: Any, stream: int) -> View:
    try:
        from cuda.core.utils import StridedMemoryView
    except ImportError as error:
        raise MissingExtra(
            f"DLPack arrays are read by cuda-core, which does not load: {error}. "
            f"Run: pip install 'accel-inference[kernels]'"
        ) from error
    try:
        kind, _ = array.__dlpack_device__()
        # a producer on the host knows no streams: -1 asks it for none
        found = StridedMemoryView.from_dlpack(
            array, stream_ptr=-1 if kind == 1 else stream or LEGACY_STREAM
        )
        dtype = found.dtype.name
    except Exception as error:  # BufferError, says the standard; producers raise others too
        raise UsageError(f"A {type(array).__name__} is not given by DLPack: {error}") from error
    shape, strides = tuple(found.shape), found.strides
    contiguous = strides is None or _contiguous(shape, strides, 1)
    device = found.device_id if found.is_device_accessible else -1
    return found.ptr, (shape, dtype, device, contiguous, not found.readonly)


def _contiguous(shape: tuple[int, ...], strides: Any, step: int) -> bool:
    """Row-major without gaps; an axis of one element may have any stride."""
    if 0 in shape:
        return True
    for size, stride in zip(reversed(shape), reversed(tuple(strides)), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True
