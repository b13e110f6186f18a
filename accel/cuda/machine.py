"""The GPU that a bench ran on, and what with: enough to tell two runs apart."""

from __future__ import annotations

import importlib.metadata
import subprocess
from typing import Any

from accel import catalog
from accel.cuda import driver, toolchain
from accel.errors import MissingExtra
from accel.values import Options

LIMIT_S = 30.0
ASKED = {  # nvidia-smi's names -> ours; nvidia-smi --help-query-gpu
    "driver_version": "driver",
    "memory.total": "memory",
    "clocks.max.sm": "sm_clock_most",
    "clocks.max.memory": "memory_clock_most",
    "power.limit": "power_limit",
}
MOVING = {"clocks.sm": "sm_clock", "clocks.mem": "memory_clock", "temperature.gpu": "celsius"}
PACKAGES = ("torch", "triton", "cuda-core", "cuda-bindings")


def facts() -> Options:
    """The GPU, its clocks as they are now and at most, the driver, the packages.

    Raises MissingExtra where torch cannot use a GPU."""
    require()
    import torch

    device = torch.cuda.get_device_properties(0)
    return {
        "gpu": device.name,
        **_smi(ASKED),
        **_smi(MOVING),
        "compute_capability": f"{device.major}.{device.minor}",
        "multiprocessors": device.multi_processor_count,
        "l2_bytes": device.L2_cache_size,
        "cuda": str(torch.version.cuda),
        **{name: version for name in PACKAGES if (version := _version(name))},
        **toolchain.versions(),
    }


def clocks() -> Options:
    """The clocks and the temperature of this moment: read them under load."""
    return _smi(MOVING)


def require() -> None:
    """Raise MissingExtra unless torch can use a GPU here; the message has the reason."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise catalog.missing("kernels bench", error) from None
    driver.api()
    if not torch.cuda.is_available():
        raise MissingExtra(
            f"torch {torch.__version__} cannot use this machine's GPU. Run: pip install torch "
            f"(its builds for CUDA), then: python -c 'import torch; torch.cuda.init()'"
        )


def _smi(asked: dict[str, str]) -> dict[str, Any]:
    """What nvidia-smi answers of torch's first device; nothing where it is not there."""
    words = ["nvidia-smi", "-i", _which(), f"--query-gpu={','.join(asked)}"]
    words += ["--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    answers = [word.strip() for word in done.stdout.partition("\n")[0].split(",")]
    return dict(zip(asked.values(), answers, strict=True)) if len(answers) == len(asked) else {}


def _which() -> str:
    """nvidia-smi counts every card there is, in another order and whatever CUDA_VISIBLE_DEVICES says:
    only the device's own number names it. torch tells that from 2.4 on."""
    import torch

    able = torch.cuda.is_available()
    number = getattr(torch.cuda.get_device_properties(0), "uuid", None) if able else None
    return f"GPU-{number}" if number else "0"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
