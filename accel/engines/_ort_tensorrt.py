"""ONNX Runtime's TensorRT provider: what it is given, and the engines that it keeps.

Names: ONNX Runtime, "TensorRT Execution Provider", section "Configuration Options". Written by that
page and the names in the wheel's library, 1.31.1; it was never run.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from accel.values import Model, Options, Request

LIBRARY = "libnvinfer.so.10"  # what the wheel's provider is linked with
CACHE = "tensorrt"  # beside the graph: engines that TensorRT built
TF32_OFF = "NVIDIA_TF32_OVERRIDE"  # =0: no TF32 in any NVIDIA library (cuBLAS, "Environment")


def loads() -> bool:
    """Is TensorRT's library here?"""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def settings(options: Options, stream: int, cache: Path) -> dict[str, str]:
    """What the provider is given: precision is the graph's, engines are kept in `cache`.

    options["profiles"], of `profiles`: without them, each new shape would be a new build."""
    if not options["tf32"]:
        os.environ[TF32_OFF] = "0"  # the provider has no option for it
    return {
        "device_id": "0",
        "user_compute_stream": str(stream),
        "trt_fp16_enable": "False",
        "trt_bf16_enable": "False",
        "trt_int8_enable": "False",
        "trt_cuda_graph_enable": str(bool(options["cuda_graph"])),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(cache),
        **options.get("profiles", {}),
    }


def profiles(model: Model, requests: Sequence[Request]) -> dict[str, str]:
    """The least, the usual and the largest size of every axis, "ids:1x4,mask:1x4" each."""
    if not requests:
        return {}
    usual = max(requests, key=lambda r: r.weight).inputs
    found: dict[str, list[str]] = {"min": [], "opt": [], "max": []}
    for port in model.inputs:
        axes = list(zip(*(r.inputs[port.name].shape for r in requests), strict=True))
        found["min"].append(_spelt(port.name, [min(sizes) for sizes in axes]))
        found["opt"].append(_spelt(port.name, usual[port.name].shape))
        found["max"].append(_spelt(port.name, [max(sizes) for sizes in axes]))
    return {f"trt_profile_{kind}_shapes": ",".join(words) for kind, words in found.items()}


def _spelt(name: str, sizes: Sequence[int]) -> str:
    return f"{name}:{'x'.join(map(str, sizes))}"


def copied(graph: Path, held: ExitStack) -> Path:
    """A copy of the engines beside a graph, until `held` is closed: a plan is never written to."""
    home = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="accel-")))
    if (graph.parent / CACHE).is_dir():
        shutil.copytree(graph.parent / CACHE, home / CACHE)
    return home / CACHE
