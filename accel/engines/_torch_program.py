"""A workload's torch.nn.Module as an exported program, and what compiling one needs of the machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from accel import workload
from accel.errors import CandidateBroken, MissingExtra, UsageError
from accel.guard import guarded
from accel.values import Feed, Port, Request, Workload

LEAST = 2  # torch.export makes a constant of an axis whose example has size 1
GPU, CPU = "cuda", "cpu"
# of aoti_include/cuda.h, by the packages of NVIDIA's that bring them: cudart-dev, crt, cccl
HEADERS = ("cuda.h", "cuda_runtime_api.h", "crt/host_defines.h", "nv/target")


def compiler() -> str:
    """The C++ compiler that inductor would call: $CXX, else g++. Empty where there is none."""
    return shutil.which(os.environ.get("CXX") or "g++") or ""


def require_compiler() -> str:
    """Its name and version, "g++ 12.2.0".

    Raises MissingExtra where there is none: without one, inductor compiles nothing."""
    found = compiler()
    if not found:
        raise MissingExtra(
            f"torch_inductor needs a C++ compiler; {os.environ.get('CXX') or 'g++'} is not on the "
            f"PATH. Run: apt-get install g++ (or set CXX), or choose another engine."
        )
    words = [found, "-dumpfullversion", "-dumpversion"]
    seen = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return f"{Path(found).name} {seen or 'of unknown version'}"


def headers_lacking() -> tuple[str, ...]:
    """Of CUDA's headers those that a package for a GPU is compiled with, and no compiler finds."""
    from torch.utils import cpp_extension

    home = [str(Path(cpp_extension.CUDA_HOME, "include"))] if cpp_extension.CUDA_HOME else []
    named = [os.environ.get(name, "") for name in ("CUDA_INC_PATH", "CPATH", "CPLUS_INCLUDE_PATH")]
    searched = [*home, *os.pathsep.join(named).split(os.pathsep), "/usr/include"]
    folders = [Path(folder) for folder in searched if folder]
    return tuple(h for h in HEADERS if not any(Path(f, h).is_file() for f in folders))


def headers_fix() -> str:
    """The line of apt, by the CUDA that torch is built with."""
    version = "-".join((torch.version.cuda or "13.0").split(".")[:2])
    parts = ("cudart-dev", "crt", "cccl", "driver-dev")
    return f"apt-get install {' '.join(f'cuda-{part}-{version}' for part in parts)}"


@contextlib.contextmanager
def shared_runtime() -> Iterator[None]:
    """Packages linked with the C++ library that torch itself runs on.

    Where a compiler has only the static libstdc++, a package holds a second copy, whose locale is
    not torch's: AOTInductor's std::regex then crashes while the package loads (seen with torch 2.11
    on CUDA 13). Named before the linker's own choice, the shared one leaves nothing to copy."""
    name = "libstdc++.so.6"
    words = [compiler(), f"-print-file-name={name}"]
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    settings = torch._inductor.config
    libraries = settings.aot_inductor.custom_op_libs or []
    more = [f":{name}"] if Path(found).is_absolute() else []
    with settings.patch({"aot_inductor.custom_op_libs": [*libraries, *more]}):
        yield


@contextlib.contextmanager
def alone(device: str) -> Iterator[None]:
    """A package compiled without what torch shares between processes, or tries without need.

    Precompiled headers lie in the system's temporary folder for every process. A compiler that is
    killed leaves half of one, which fails all later builds; they save 2 s of 17, and the first costs
    20 (MiniLM, 2 cores). For a GPU, no loop runs on the processor whose vector instructions would
    be worth six compilations to find."""
    words: dict[str, Any] = {"aot_inductor.precompile_headers": False}
    if device == GPU:
        words["cpp.vec_isa_ok"] = False
    with torch._inductor.config.patch(words):
        yield


def set_threads(count: int) -> int:
    """The number read back. Raises CandidateBroken where it is another."""
    torch.set_num_threads(count)
    obtained: int = torch.get_num_threads()
    if obtained != count:
        raise CandidateBroken(f"asked PyTorch for {count} threads, obtained {obtained}")
    return obtained


def set_precision(tf32: bool) -> None:
    """fp32 means fp32: no TF32 in matrix products or convolutions, no bf16 in oneDNN's; or TF32 in
    both, where a candidate says so in its name.

    cuDNN's convolutions use TF32 unless told ("CUDA semantics", PyTorch's notes).
    Raises CandidateBroken where it was not obtained."""
    wanted = "high" if tf32 else "highest", tf32, tf32
    if _precision() == wanted:
        return
    torch.set_float32_matmul_precision(wanted[0])
    torch.backends.cudnn.allow_tf32 = tf32
    if _precision() != wanted:
        names = "exact fp32", "TF32"
        raise CandidateBroken(
            f"asked PyTorch for {names[tf32]} products, obtained {names[not tf32]}"
        )


def _precision() -> tuple[str, bool, bool] | None:
    """None where somebody used PyTorch's newer switches and they contradict these: it refuses to tell."""
    backends = torch.backends
    try:
        products, convolutions = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
        return torch.get_float32_matmul_precision(), products, convolutions
    except RuntimeError:
        return None


def require_device(device: str) -> None:
    """Raise CandidateBroken where a GPU was asked for and there is none; nothing falls back."""
    if device == GPU and not torch.cuda.is_available():
        raise CandidateBroken(
            "the target is an NVIDIA GPU and PyTorch sees none here. Build on the device itself, "
            "or choose a target that is this machine. See: accel list targets"
        )


def load_module(problem: Workload) -> Any:
    """model() in evaluation mode. Raises UsageError where it is no module."""
    made = guarded("model()", problem.model)
    if not isinstance(made, torch.nn.Module):
        seen = type(made).__name__
        raise UsageError(f"torch_inductor compiles a torch.nn.Module; model() gives a {seen}.")
    return made.eval()


class Adapter(torch.nn.Module):
    """The module behind one calling convention: tensors in, in the ports' order; a tuple out."""

    def __init__(self, module: Any, names: Sequence[str], problem: Workload) -> None:
        super().__init__()
        self.module, self._names, self._problem = module, tuple(names), problem

    def forward(self, *tensors: Any) -> tuple[Any, ...]:
        feed = dict(zip(self._names, tensors, strict=True))
        found = workload.named_outputs(workload.call(self.module, feed), self._problem)
        return tuple(found.values())


def export(
    module: Any, problem: Workload, ports: Sequence[Port], requests: Sequence[Request], device: str
) -> Any:
    """The torch.export.ExportedProgram; every axis that is a symbol in the ports stays dynamic.

    Raises CandidateBroken with torch.export's reason, UsageError where there is no example."""
    feed = _example(problem, ports, requests)
    tensors = tensors_of(feed, ports, device)
    dynamic = torch.export.Dim.DYNAMIC
    axes = tuple({i: dynamic for i, d in enumerate(p.shape) if isinstance(d, str)} for p in ports)
    adapter = Adapter(module, [p.name for p in ports], problem).to(device)
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(adapter, tensors, dynamic_shapes=(axes,), strict=False)
    except Exception as error:  # torch.export raises a dozen types of its own
        raise CandidateBroken(f"torch.export failed: {first(error)}") from None


def tensors_of(feed: Feed, ports: Sequence[Port], device: str) -> tuple[Any, ...]:
    """A feed's arrays in the ports' order; on a CPU they share memory."""
    arrays = (np.asarray(feed[p.name], order="C") for p in ports)
    return tuple(torch.from_numpy(array).to(device) for array in arrays)


def _example(problem: Workload, ports: Sequence[Port], requests: Sequence[Request]) -> Feed:
    if problem.inputs is None and problem.requests is None:
        if not requests:
            raise UsageError(f"{problem.source} needs inputs() or requests().")
        feed: Feed = requests[0].inputs
    else:
        feed = workload.example(problem)
    return {p.name: _widened(feed[p.name], p) for p in ports}


def _widened(array: Any, port: Port) -> Any:
    """Dynamic axes of size 1 repeated to 2."""
    pairs = zip(array.shape, port.shape, strict=True)
    times = [LEAST if isinstance(d, str) and n == 1 else 1 for n, d in pairs]
    return np.tile(array, times) if times else array


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Torch warns of its own deprecations while it compiles; what fails is an error anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process for a while: inductor reads where its caches lie each time."""
    kept = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """Inductor's caches in a folder that goes afterwards."""
    with TemporaryDirectory(prefix="accel-") as folder, environment(caches(Path(folder))):
        yield


def caches(folder: Path) -> dict[str, str]:
    """Where inductor and Triton keep what they compile: never in the user's own folders."""
    return {"TORCHINDUCTOR_CACHE_DIR": str(folder), "TRITON_CACHE_DIR": str(folder / "triton")}


def first(error: BaseException) -> str:
    """The lines of an error that say what happened, at most three."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:500]}"
