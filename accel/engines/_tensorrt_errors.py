"""What TensorRT's words mean: pattern -> cause -> what to do next. Pure.

Each row names the threads that it was read in. A row that is about memory sends the build down its
ladder (see _tensorrt_ladder); the others end it. The first message that is known counts: what follows
it follows from it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SHOWN = 400  # characters of TensorRT's own words in a message


@dataclass(frozen=True)
class Trouble:
    """One known failure."""

    pattern: str
    cause: str
    command: str
    source: str
    memory: bool = False


TABLE = (
    Trouble(
        r"CUDA initialization failure with error",
        "CUDA does not start: the driver is absent, or older than this TensorRT's CUDA",
        "Run: nvidia-smi; then: accel doctor",
        "NVIDIA/TensorRT #2879, #2913",
    ),
    Trouble(
        r"UNSUPPORTED_PTX_VERSION|unsupported toolchain",
        "the PTX of a kernel is newer than this driver loads",
        "Set ptx_version in the target's profile to what the driver loads, or update the driver",
        "pytorch/TensorRT #4331; wang-xinyu/tensorrtx #747",
    ),
    Trouble(
        r"Plugin not found|No importer registered for op",
        "the parser knows no such operator, and no plugin of that name is registered",
        "See which node: accel inspect MODEL; another engine may take it: accel optimize --engine ...",
        "NVIDIA/TensorRT #1775; onnx/onnx-tensorrt #800",
    ),
    Trouble(
        r"Non-zero zero point|zeroPt must be all zeros|shiftIsAllZeros",
        "a Q/DQ node has a zero point: TensorRT quantizes symmetrically only",
        "Quantize for this engine: accel quantize --recipe int8_static --engine tensorrt",
        "NVIDIA/TensorRT #2774, #4698",
    ),
    Trouble(
        r"no optimization profile has been defined",
        "an input with open axes has no range of shapes",
        "Add requests() to the workload, or give --data x.npz",
        "NVIDIA/TensorRT #1116",
    ),
    Trouble(
        r"element type \(\w+\) differs from|first input has type \w+ but second input has type",
        "two inputs of a node have different types, and a strongly typed network casts nothing",
        "Insert the casts: accel inspect MODEL --for TARGET shows them",
        "the-database/mpv-AnimeJaNai #36; collabora/WhisperLive #277",
    ),
    Trouble(
        r"incompatible device",
        "the plan was built for another kind of GPU",
        "Build it on this machine: accel build MODEL --engine tensorrt",
        "NVIDIA/TensorRT #564, #2176",
    ),
    Trouble(
        r"not compatible with this version of TensorRT",
        "the plan was built with another TensorRT",
        "Build it on this machine: accel build MODEL --engine tensorrt",
        "NVIDIA/retinanet-examples #314",
    ),
    Trouble(
        r"(?i)out ?of ?memory|allocating \d+-byte buffer|could not be allocated",
        "the GPU's memory did not suffice while kernels were tried",
        "Free the GPU (nvidia-smi), or set a smaller workspace_bytes or shorter ranges",
        "NVIDIA/TensorRT #2643, #4258, #840",
        memory=True,
    ),
    Trouble(
        r"(?i)(cudnn|cublas)_?status_?alloc_?failed",
        "a library that TensorRT calls found no memory on the GPU",
        "Free the GPU (nvidia-smi), or set a smaller workspace_bytes",
        "NVIDIA/TensorRT #3168",
        memory=True,
    ),
    Trouble(
        r"(?i)could not find any implementation for node",
        "every kernel for a node was left out, most often for want of memory",
        "Free the GPU (nvidia-smi), or set a smaller workspace_bytes or shorter ranges; where memory "
        "is plenty, the node itself is not supported: accel inspect MODEL --for TARGET",
        "NVIDIA/TensorRT #2035, #4258, #4360; open-mmlab/mmdeploy #48",
        memory=True,
    ),
    Trouble(
        r"(?i)insufficient memory|insuficient memory|memory is insufficient",
        "tactics were skipped for want of memory",
        "Free the GPU (nvidia-smi), or set a smaller workspace_bytes",
        "NVIDIA/TensorRT #3355, #2035",
        memory=True,
    ),
)


def trouble(messages: Sequence[str]) -> Trouble | None:
    """What the first message that is known tells of; None where none is."""
    return next((t for m in messages for t in TABLE if re.search(t.pattern, m)), None)


def advice(messages: Sequence[str]) -> str:
    """The cause with its sources, and what to do next; only the latter where the cause is not known."""
    found = trouble(messages)
    if found is None:
        return "The whole story is in the build's log; what the graph holds: accel inspect MODEL"
    return f"That means: {found.cause} ({found.source}). {found.command}"


def told(messages: Sequence[str]) -> str:
    """TensorRT's own first words, then the cause and what to do next."""
    words = " ".join(messages[0].split())[:SHOWN] if messages else "nothing at all"
    return f"TensorRT said: {words}. {advice(messages)}"
