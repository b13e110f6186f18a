"""Is this machine the one that a target describes? And the GPUs that its driver shows."""

from __future__ import annotations

import ctypes
import functools
import platform
from dataclasses import dataclass

from accel.errors import Unmeasured
from accel.measure import machine
from accel.plain import shown
from accel.values import Target

LIBRARY = "libcuda.so.1"
MAJOR, MINOR, MULTIPROCESSORS = 75, 76, 16  # CUdevice_attribute (cuda.h)
NAME_BYTES = 256
NVML_ON_JETSON = " (nvgpu)"  # behind the name: "Orin (nvgpu)"
# Firmware and ECC keep a part of the memory: 4 to 11 % on GPUs and Jetson modules that were read.
LEAST, MOST = 0.85, 1.05


@dataclass(frozen=True)
class Gpu:
    """One device, as the CUDA driver describes it; no context is made, no memory is taken."""

    name: str
    compute_capability: str
    memory_bytes: int
    multiprocessors: int
    driver: str  # the newest CUDA that it runs: "13.0"


@functools.cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process may use; empty without a driver. (CUDA driver API, cuInit ff.)"""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError:
        return ()
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    version = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return tuple(_gpu(cuda, index, driver) for index in range(count.value))


def _gpu(cuda: ctypes.CDLL, index: int, driver: str) -> Gpu:
    name, memory = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_size_t()
    cuda.cuDeviceGetName(name, NAME_BYTES, index)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), index)
    major, minor, count = (_attribute(cuda, index, a) for a in (MAJOR, MINOR, MULTIPROCESSORS))
    return Gpu(name.value.decode(), f"{major}.{minor}", memory.value, count, driver)


def _attribute(cuda: ctypes.CDLL, index: int, attribute: int) -> int:
    found = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(found), attribute, index)
    return found.value


def elsewhere(target: Target) -> str:
    """Why this machine is not the target; empty where it is, or where the target says so itself."""
    if target.local:
        return ""
    seen = platform.machine()
    if target.architecture and target.architecture != seen:
        return f"it has an {target.architecture} processor, this machine {seen}"
    lacking = sorted(set(target.isa) - machine.isa())
    if lacking:
        return f"this machine's processor lacks {', '.join(lacking)}"
    return _other_gpu(target) if target.compute_capability else ""


def _other_gpu(target: Target) -> str:
    found = gpus()
    if not found:
        return "this machine shows no NVIDIA GPU"
    first = found[0]
    if first.compute_capability != target.compute_capability:
        wanted = target.compute_capability
        return f"its GPU is of {wanted}, this machine's {first.name} of {first.compute_capability}"
    if target.gpu and not _called(first.name, target.gpu):
        return f"its GPU is a {target.gpu}, this machine's is {first.name!r}"
    return _other_size(target, first)


def _called(name: str, wanted: str) -> bool:
    """Whether a driver's name ends with a profile's, word by word: an "H200 NVL" is no "H200"."""
    seen, words = (text.lower().split() for text in (name.removesuffix(NVML_ON_JETSON), wanted))
    return seen[-len(words) :] == words


def _other_size(target: Target, gpu: Gpu) -> str:
    """Cards of one name in several sizes, slices of one; every Jetson Orin has the same name."""
    share = gpu.memory_bytes / (target.memory_bytes or gpu.memory_bytes)
    if not LEAST <= share <= MOST:
        wanted_gb, seen_gb = (target.memory_bytes or 0) / 1e9, gpu.memory_bytes / 1e9
        return f"its GPU has {wanted_gb:.1f} GB of memory, this machine's {gpu.name} {seen_gb:.1f}"
    count = target.multiprocessors or gpu.multiprocessors
    shared = target.architecture == "aarch64"  # a Jetson switches some off in low power modes
    if gpu.multiprocessors > count or (gpu.multiprocessors < count and not shared):
        return f"its GPU has {count} multiprocessors, this machine's {gpu.multiprocessors}"
    return ""


def require(target: Target) -> None:
    """Raise Unmeasured for a target that is another machine: nothing can be timed for it here."""
    why = elsewhere(target)
    if why:
        raise Unmeasured(
            f"Target {target.name!r} is another machine ({shown(target.description, keep='')}): {shown(why, keep='')}. What is "
            f"built and timed here would say nothing about it. Pack what can be done here with: "
            f"accel optimize --target {target.name}; then, on that machine: accel finish RELEASE"
        )
