"""The machine: cores that may be used, instruction set, and a fingerprint that keys every time."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.measure import cgroups
from accel.values import Options

if TYPE_CHECKING:
    from accel.measure.here import Gpu

GPUS = "gpus"
KNOWN_ISA = {  # /proc/cpuinfo's flags (x86) or features (Arm) that decide which kernels run
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimddp", "i8mm", "bf16",
}  # fmt: skip
LIBRARIES = (
    *("torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "openvino", "nncf", "numpy"),
    *("tensorrt", "onnxruntime-gpu"),
)
TENSORRT = ("tensorrt", "tensorrt-cu11", "tensorrt-cu12", "tensorrt-cu13")  # one import name
PROCESSOR = ("vendor_id", "cpu family", "model", "stepping")  # x86's, in /proc/cpuinfo
ARM = ("CPU implementer", "CPU variant", "CPU part", "CPU revision")  # what aarch64 has instead
CLASS_KEYS = ("cpu", "isa", "cores", "smt", "hypervisor", "architecture", GPUS)


def cores() -> int:
    """How many cores this process may use: its affinity, and the quota of each group around it."""
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.floor, _quotas())]))


def spare() -> int:
    """Cores that it sees and that its quota does not pay for: others may fill them, and cost it nothing."""
    return len(os.sched_getaffinity(0)) - cores()


def _quotas() -> Iterator[float]:
    """Cores that a group may use on average: its time per period ("max" or -1: as much as there is)."""
    for group, version in cgroups.around("cpu"):
        if version == cgroups.V2:
            told = cgroups.text(group / "cpu.max").split()
        else:
            told = [
                cgroups.text(group / f"cpu.cfs_{what}_us").strip() for what in ("quota", "period")
            ]
        if len(told) == 2 and all(t.isdecimal() for t in told) and int(told[1]):
            yield int(told[0]) / int(told[1])


def isa() -> frozenset[str]:
    """Those instruction set extensions that decide which kernels a runtime picks."""
    words = _cpuinfo().get("flags", _cpuinfo().get("Features", ""))
    return frozenset(words.split()) & KNOWN_ISA


@functools.cache
def _cpuinfo() -> Mapping[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    found: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return found
    for line in text.partition("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        found[key.strip()] = value.strip()
    return found


def fingerprint() -> Options:
    """What a latency depends on, as far as it can be read here; never a host's name."""
    from accel.measure import here  # it asks this module for the processor

    info, gpus, arm = _cpuinfo(), here.gpus(), platform.machine() == "aarch64"
    return {
        "architecture": platform.machine(),
        "cpu": " ".join(info.get(k, "") for k in (ARM if arm else PROCESSOR)),
        "cpu_name": info.get("model name", "unknown"),
        "isa": sorted(isa()),
        "cores": cores(),
        GPUS: [_told(gpu, arm) for gpu in gpus],
        "gpu_driver": gpus[0].driver if gpus else None,
        "smt": _read("/sys/devices/system/cpu/smt/active"),
        "hypervisor": "hypervisor" in info.get("flags", "").split(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "no_turbo": _read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _told(gpu: Gpu, arm: bool) -> str:
    """Every Jetson Orin has one name, from 8 multiprocessors to 16."""
    bare = f"{gpu.name} {gpu.compute_capability}"
    return f"{bare} {gpu.multiprocessors} SMs" if arm else bare


def machine_class(seen: Mapping[str, Any]) -> str:
    """A short name of what changes speed: times are compared inside one class only.

    A machine without a GPU has the name that it had before GPUs were looked for."""
    parts = repr([(k, seen.get(k)) for k in CLASS_KEYS if k != GPUS or seen.get(k)])
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


def versions() -> dict[str, str]:
    """The libraries that a graph, a plan or a time depends on, as installed; absent ones too.

    TensorRT goes by several names: where they differ in version, each is told."""
    several = dict.fromkeys(filter(None, map(_version, TENSORRT)))
    return {name: _version(name) for name in LIBRARIES} | {"tensorrt": ", ".join(several)}


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None
