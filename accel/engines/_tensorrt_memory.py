"""How much of the GPU's memory is free at this moment, and whether the processor shares it."""

from __future__ import annotations

from dataclasses import dataclass

from accel.cuda import driver

DEVICE = 0  # what the other engines run on too


@dataclass(frozen=True)
class Memory:
    """Of one GPU."""

    free_bytes: int
    shared: bool  # with the processor, as on a Jetson


def free() -> Memory:
    """Raises MissingExtra without cuda.bindings or a driver. (CUDA driver API, cuMemGetInfo)"""
    api = driver.api()
    with driver.on(DEVICE):
        amount = driver.checked("asking for the free memory", api.cuMemGetInfo())
    integrated = api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED
    device = driver.checked("finding a device", api.cuDeviceGet(DEVICE))
    asked = api.cuDeviceGetAttribute(integrated, device)
    return Memory(int(amount), bool(driver.checked("asking about a device", asked)))
