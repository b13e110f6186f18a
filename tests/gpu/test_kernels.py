"""Every op, dtype and case on the device, against the float64 reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from accel import catalog
from accel.cuda import launch
from accel.cuda.comparing import excess
from accel.protocols import Case

NAMES = catalog.names("kernels")
TYPED = [(n, d) for n in NAMES for d in catalog.load("kernels", n).DTYPES]
POISON = 0x5A  # of every byte of an output before the kernel runs


@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_the_kernel_is_right(name: str, dtype: str) -> None:
    """All cases, at the tolerance of the simulator's test; outputs start out poisoned, and what lies
    around them is left alone."""
    wrong = {}
    for case in catalog.load("kernels", name).cases(dtype):
        found = _worst(name, dtype, case)
        if not found <= 1:
            wrong[case.name] = found
    assert not wrong, f"error over the allowed: {wrong}"


def _worst(name: str, dtype: str, case: Case) -> float:
    member = catalog.load("kernels", name)
    baked = case.baked or member.VARIANTS[0]
    signature = member.signature(dtype, baked)
    inputs = {n: on_device(case.inputs[n], case.offset) for n, _ in signature.inputs}
    sizes = member.output_shapes({n: a.shape for n, a in case.inputs.items()}, baked)
    rooms = {n: room(sizes[n], kind, case.offset) for n, kind in signature.outputs}
    outputs = {n: tensor for n, (tensor, _) in rooms.items()}
    launch.run(name, inputs, outputs, baked, dtype=dtype)
    want = member.reference(case.inputs, baked)
    for n, (tensor, whole) in rooms.items():
        assert spared(tensor, whole), f"{case.name}: {n} was written past its end"
    return max(
        excess(as_numpy(outputs[n]), want[n], member.TOLERANCE[kind])
        for n, kind in signature.outputs
    )


def on_device(array: Any, offset: int) -> Any:
    """A contiguous view, `offset` elements past a boundary of 256 bytes."""
    import torch

    tensor = from_numpy(array)
    whole = torch.empty(tensor.numel() + offset, dtype=tensor.dtype, device="cuda")
    view = whole[offset:].view(tensor.shape)
    view.copy_(tensor)
    return view


def room(shape: Any, dtype: str, offset: int) -> tuple[Any, Any]:
    """A poisoned output and the bytes around it: 64 more behind its end."""
    import torch

    kind = getattr(torch, dtype)
    size = kind.itemsize
    count = math.prod(shape)
    whole = torch.full(((count + offset) * size + 64,), POISON, dtype=torch.uint8, device="cuda")
    view = whole[offset * size : (offset + count) * size].view(kind).view(tuple(shape))
    return view, whole


def spared(tensor: Any, whole: Any) -> bool:
    """Are the bytes before and behind the output as they were?"""
    start = tensor.data_ptr() - whole.data_ptr()
    end = start + tensor.numel() * tensor.element_size()
    return bool((whole[:start] == POISON).all()) and bool((whole[end:] == POISON).all())


def from_numpy(array: Any) -> Any:
    """bfloat16 goes by its bits: torch does not know ml_dtypes."""
    import torch

    array = np.ascontiguousarray(array)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def as_numpy(tensor: Any) -> Any:
    """float32 of what numpy does not hold."""
    import torch

    host = tensor.cpu()
    return (host.float() if host.dtype == torch.bfloat16 else host).numpy()
