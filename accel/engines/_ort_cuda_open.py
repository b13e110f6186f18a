"""Sessions of ONNX Runtime on a GPU, whose every setting is set and read back.

Options' names: ONNX Runtime, "CUDA Execution Provider" and "TensorRT Execution Provider", section
"Configuration Options".
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnxruntime

from accel.engines import _ort_placement, _ort_tensorrt
from accel.engines._ort_cuda_session import first
from accel.errors import CandidateBroken, UsageError
from accel.values import Options

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
NO_FALLBACK = "session.disable_cpu_ep_fallback"
FELL = "fallback to CPU EP has been explicitly disabled"  # what it says where a node would
CAPTURED = "Capturing the cuda graph for this model"  # the provider's log, the only sign of it
LIBRARIES = (  # in the order in which they need one another
    "libcudart.so.{}", "libnvrtc.so.{}", "libcublasLt.so.{}", "libcublas.so.{}", "libcurand.so.10",
    "libcufft.so.1?", "libcudnn.so.9",
)  # fmt: skip
# Said of each session where nothing is wrong: the provider is built in, no plug-in; and a graph that
# may not fall is opened again. (onnxruntime_pybind_state.cc; inference_session.cc)
HARMLESS = ("No registered plugin EP device found for", FELL)
INFO, ERRORS_ONLY = 1, 3  # ONNX Runtime's log severities
DEFAULTS: Options = {
    "provider": "cuda",
    "cuda_graph": False,
    "tf32": False,
    "nhwc": False,
    "conv_search": "EXHAUSTIVE",
    "arena": "kNextPowerOfTwo",
}
ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "provider": ("cuda", "tensorrt"),
    "cuda_graph": (False, True),
    "tf32": (False, True),
    "nhwc": (False, True),
    "conv_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena": ("kNextPowerOfTwo", "kSameAsRequested"),
}
SPELT = {"True": "1", "true": "1", "False": "0", "false": "0"}  # the providers differ
PASSING = re.compile("user_compute_stream|gpu_external_|.*_path$")  # addresses, scratch folders


def settled(options: Options) -> dict[str, Any]:
    """Every option, those that were not given at what ONNX Runtime itself takes, TF32 apart: off.

    Raises UsageError for a value that is not allowed."""
    found = {**DEFAULTS, **options}
    for name, allowed in ALLOWED.items():
        if found[name] not in allowed:
            words = ", ".join(map(repr, allowed))
            raise UsageError(
                f"onnxruntime_cuda: {name} must be one of {words}, not {found[name]!r}."
            )
    return found


def cuda_options(options: Options, stream: int) -> dict[str, str]:
    """What the CUDA provider is given."""
    flags = {"enable_cuda_graph": "cuda_graph", "use_tf32": "tf32", "prefer_nhwc": "nhwc"}
    return {
        "device_id": "0",
        "user_compute_stream": str(stream),
        **{name: str(int(options[ours])) for name, ours in flags.items()},
        "cudnn_conv_algo_search": options["conv_search"],
        "arena_extend_strategy": options["arena"],
    }


def providers(options: Options, stream: int, cache: Path, strict: bool) -> list[Any]:
    """In order. The CPU provider is named only where nodes may fall to it: ONNX Runtime refuses its
    name together with the ban."""
    cuda = cuda_options(options, stream)
    ahead: list[Any] = []
    if options["provider"] == "tensorrt":
        ahead = [(TENSORRT, _ort_tensorrt.settings(options, stream, cache))]
        cuda = {**cuda, "enable_cuda_graph": "0"}
    return [*ahead, (CUDA, cuda), *([] if strict else [CPU])]


def opened(
    path: Path, options: Options, stream: int, strict: bool,
    level: int = ERRORS_ONLY, watched: Path | None = None, cache: Path | None = None,
) -> Any:  # fmt: skip
    """An onnxruntime.InferenceSession with just what was asked for.

    `strict`: a node that no GPU provider takes is an error; `watched`: a scratch folder for what
    `_ort_placement.read` wants; `cache`: where TensorRT's engines are, else beside the graph.
    Raises CandidateBroken where it is refused or differs."""
    wanted = onnxruntime.SessionOptions()
    wanted.intra_op_num_threads = int(options["threads"])
    wanted.inter_op_num_threads = 1
    wanted.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    wanted.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    wanted.log_severity_level = level
    wanted.add_session_config_entry(NO_FALLBACK, str(int(strict)))
    if watched is not None:
        _ort_placement.watch(wanted, watched)
    asked = providers(options, stream, cache or path.parent / _ort_tensorrt.CACHE, strict)
    try:
        made = onnxruntime.InferenceSession(str(path), wanted, providers=asked, enable_fallback=0)
    except Exception as error:  # onnxruntime raises a dozen types of its own
        raise CandidateBroken(f"ONNX Runtime refuses the graph: {first(error)}") from None
    read_back(made, asked, int(options["threads"]))
    return made


def read_back(made: Any, asked: list[Any], threads: int) -> None:
    """Raise CandidateBroken where a provider, an option or the threads are not those asked for.

    A provider whose libraries do not load is left out by ONNX Runtime with a line in the log."""
    names = [entry if isinstance(entry, str) else entry[0] for entry in asked]
    obtained = made.get_providers()
    if obtained != [*names, *([] if CPU in names else [CPU])]:
        raise CandidateBroken(
            f"asked ONNX Runtime for {', '.join(names)}, obtained {', '.join(obtained)}: nothing "
            "falls back. See why: accel doctor"
        )
    told = made.get_provider_options()
    for name, given in (entry for entry in asked if not isinstance(entry, str)):
        for key, value in given.items():
            seen = told[name].get(key, value)  # an option that it does not tell of stays unread
            if SPELT.get(seen, seen) != SPELT.get(value, value):
                raise CandidateBroken(f"asked {name} for {key}={value}, obtained {seen!r}")
    count = made.get_session_options().intra_op_num_threads
    if count != threads:
        raise CandidateBroken(f"asked for {threads} threads, obtained {count}")


def told(made: Any) -> dict[str, dict[str, str]]:
    """Providers and their options as obtained, without what differs from run to run."""
    return {
        name: {k: v for k, v in sorted(found.items()) if not PASSING.match(k)}
        for name, found in made.get_provider_options().items()
    }


@contextlib.contextmanager
def overheard() -> Iterator[Any]:
    """What is written to file descriptor 2 meanwhile, the log of libraries among it: a function.

    Where an error passes, it is written there after all."""
    with tempfile.TemporaryFile() as kept:
        real = os.dup(2)
        os.dup2(kept.fileno(), 2)

        def text() -> str:
            size = os.fstat(kept.fileno()).st_size
            return os.pread(kept.fileno(), size, 0).decode(errors="replace")

        try:
            yield text
        except BaseException:
            os.write(real, text().encode())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """What is written to file descriptor 2 meanwhile, but for the lines that are HARMLESS.

    For a process of our own: a thread that writes there too would be delayed."""
    lines: list[str] = []
    try:
        with overheard() as said:
            yield
            lines = said().splitlines(keepends=True)
    finally:
        os.write(2, "".join(x for x in lines if not any(w in x for w in HARMLESS)).encode())


@functools.cache
def preload() -> tuple[str, ...]:
    """Load CUDA's and cuDNN's libraries from NVIDIA's wheels, wherever on the path those are.

    ONNX Runtime's provider finds them only where the system's loader looks, and its own
    preload_dlls only in the folder that onnxruntime itself was installed to."""
    cuda = str(getattr(onnxruntime, "cuda_version", "") or "13").partition(".")[0]
    nvidia = importlib.util.find_spec("nvidia")
    homes = list(nvidia.submodule_search_locations or ()) if nvidia else []
    found = []
    for name in LIBRARIES:
        for path in (p for home in homes for p in Path(home).glob(f"*/lib/{name.format(cuda)}")):
            with contextlib.suppress(OSError):  # the session's own error tells of what is missing
                ctypes.CDLL(str(path))
                found.append(path.name)
    return tuple(found)
