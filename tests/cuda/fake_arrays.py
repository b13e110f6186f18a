"""Arrays at made-up addresses, and the fake driver's books, for the checks that run in front of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from accel import catalog
from accel.cuda import launch, loading

FAKE = ctypes.CDLL("libcuda.so.1")
FAKE.fake_value.restype = ctypes.c_int64
FAKE.fake_stream.restype = FAKE.fake_function.restype = ctypes.c_void_p
FAKE.fake_entry.restype = ctypes.c_char_p
OP = "residual_layernorm"
SHAPE = (2, 3, 384)


class Array:
    """Says that it lies on a device, by `__cuda_array_interface__`."""

    def __init__(self, shape: Any, typestr: str, address: int, device: int = 0, **said: Any):
        where = (0xD0 + device << 40) + address
        self.__cuda_array_interface__ = {
            "shape": tuple(shape), "typestr": typestr, "data": (where, False), "version": 3, **said
        }  # fmt: skip


class Tensor(torch.Tensor):
    """A tensor of the host that says it lies on device 0."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def get_device(self) -> int:
        """The device that it says."""
        return 0


def typestr(dtype: str) -> str:
    """As the protocol spells it: bfloat16 is two bytes of no known kind."""
    return "<V2" if dtype == "bfloat16" else np.dtype(dtype).str


def arrays(name: str = OP, dtype: str = "float32", device: int = 0) -> tuple[Any, Any]:
    """Inputs and outputs for the kernel's first case, each at an address of its own."""
    member = catalog.load("kernels", name)
    case = next(iter(member.cases(dtype)))
    baked = case.baked or member.VARIANTS[0]
    signature = member.signature(dtype, baked)
    shapes = {n: a.shape for n, a in case.inputs.items()}
    sizes = {**shapes, **member.output_shapes(shapes, baked)}
    made = {
        n: Array(sizes[n], typestr(kind), 4096 * (i + 1), device)
        for i, (n, kind) in enumerate((*signature.inputs, *signature.outputs))
    }
    outputs = {n: made.pop(n) for n, _ in signature.outputs}
    return made, outputs


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing planned, nothing loaded; machine code is a fake that the fake driver takes."""
    launch._PLANS.clear()
    loading._LOADED.clear()
    FAKE.fake_layout(b"ppppiiipp")
    monkeypatch.setattr(loading, "machine_code", lambda *_: b"\177ELF and nothing else")
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda _: 0x99, raising=False)
    yield
    FAKE.fake_capture(0)
    FAKE.fake_refuse(0)
