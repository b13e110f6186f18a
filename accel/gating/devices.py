"""Arms that run on a device with memory of its own: do they fit there, and what is told of it?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from accel.engines._tensorrt_memory import Memory
from accel.errors import AccelError, concerns_all
from accel.evidence import Subject
from accel.measure import child
from accel.values import Plan

FREE = "accel.engines._tensorrt_memory:free"
LIMIT_S = 60.0  # to start CUDA
SHARE = 0.8  # of the device's free memory, that all arms together may take
HOST = {"", "cpu"}
# ONNX Runtime's arena, the driver's status, TensorRT's and torch's words
FULL = re.compile(r"out[ _]?of[ _]?memory|failed to allocate memory|alloc_?failed", re.IGNORECASE)
NOTE = "peak_memory is the host's; a device's memory is not gated"


def on_device(plan: Plan | None) -> bool:
    """Does a plan run on a GPU or another device, by what its engine read back?"""
    if plan is None:
        return False
    rows = plan.placement.placed if plan.placement else ()
    seen = {str(plan.facts.get("device", "")), *(row.device for row in rows)}
    return bool(plan.facts.get("gpu")) or any(name.lower() not in HOST for name in seen)


def fit(subjects: Iterable[Subject], log: Path) -> bool:
    """Whether all arms fit into the device's memory at once, where it tells what is free.

    Asked in a process of its own: whoever asks starts CUDA, and so takes some of that memory."""
    # weights, and as much again for what is computed with them
    need = sum(2 * s.size_bytes for s in subjects if on_device(s.plan))
    if not need:
        return True
    try:
        free = child.call(FREE, {}, Memory, log=log, timeout_s=LIMIT_S)
    except AccelError as error:
        if concerns_all(error):
            raise
        return True  # no cuda.bindings, or no NVIDIA GPU: the arms are tried
    return need < SHARE * free.free_bytes


def named(said: str, plans: Iterable[Plan]) -> str:
    """An error of one of the plans that are loaded, and whether it is that the device is full."""
    count = sum(map(on_device, plans))
    if not count or not FULL.search(said):
        return said
    loaded = f"{count} arms were loaded together" if count > 1 else "the arm was loaded alone"
    return f"out of memory on the device: {loaded}. {said} See what else is on it: nvidia-smi"
