"""Can ONNX Runtime use the GPU of this machine? Tried, and told with the one line that mends it."""

from __future__ import annotations

import ctypes
import platform
from importlib import metadata, util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime

from accel import catalog
from accel.engines import _ort_cuda_open as opening
from accel.engines import _ort_tensorrt
from accel.engines._cuda_memory import Device
from accel.errors import AccelError
from accel.measure import here
from accel.protocols import Probe

FIRST_OF_CUDA_13 = (
    "1.27"  # exclusive: wheels up to 1.26.0 are built with CUDA 12.8, 1.31.1 with 13.0
)
CUDNN = "libcudnn.so.9"


def probe() -> Probe:
    """Usable where a session on the GPU was made and ran."""
    installed = [n for n in ("onnxruntime", "onnxruntime-gpu") if _version(n)]
    if len(installed) == 2:
        return Probe(
            False, reason="onnxruntime and onnxruntime-gpu overwrite each other.", fix=fix()
        )
    if not here.gpus():
        reason = "no NVIDIA driver shows a GPU here."
        return Probe(False, reason=reason, fix="nvidia-smi")
    if opening.CUDA not in onnxruntime.get_available_providers():
        reason = f"the onnxruntime that is installed has no {opening.CUDA}."
        return Probe(False, onnxruntime.__version__, reason, fix())
    try:
        _try()
    except AccelError as error:
        return Probe(False, onnxruntime.__version__, str(error), fix())
    return Probe(True, onnxruntime.__version__, facts=facts())


def fix() -> str:
    """One line of pip, by the CUDA that torch or else the driver is of."""
    if platform.machine() == "aarch64":
        return _jetsons()
    bounds = f">=1.24,<{FIRST_OF_CUDA_13}" if cuda_major() == 12 else f">={FIRST_OF_CUDA_13},<2"
    return (
        "pip uninstall -y onnxruntime onnxruntime-gpu && "
        f"pip install 'onnxruntime-gpu[cuda,cudnn]{bounds}'"
    )


def _jetsons() -> str:
    """PyPI has no wheel of it for aarch64. NVIDIA's is fetched first: where there is none for this
    Python, the runtime that works on the processor stays."""
    index = catalog.NVIDIA_WHEELS + ("jp6/cu126" if cuda_major() == 12 else "sbsa/cu130")
    return (
        f"pip download --no-deps onnxruntime-gpu --index-url {index} && "
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime_gpu-*.whl"
    )


def cuda_major() -> int:
    """Of the CUDA that torch brings; without torch, of the newest that the driver runs, 13 at most."""
    if util.find_spec("torch") is not None:
        import torch

        if torch.version.cuda:
            return int(torch.version.cuda.partition(".")[0])
    found = here.gpus()
    return min(13, int(found[0].driver.partition(".")[0])) if found else 13


def facts() -> dict[str, Any]:
    """The device and the libraries that are in use; None where one does not tell."""
    gpu = here.gpus()[0]
    return {
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "driver_cuda": gpu.driver,
        "cuda": getattr(onnxruntime, "cuda_version", None) or None,
        "cudnn": cudnn(),
    }


def cudnn() -> str | None:
    """The loaded cuDNN's version, "9.19.0" (cudnnGetVersion: 91900)."""
    try:
        number = ctypes.CDLL(CUDNN).cudnnGetVersion()
    except (OSError, AttributeError):
        return None
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def tensorrt() -> bool:
    """Does the TensorRT provider have its library here?"""
    return opening.TENSORRT in onnxruntime.get_available_providers() and _ort_tensorrt.loads()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _try() -> None:
    """A session of one node. Raises CandidateBroken where the provider or the driver fails."""
    opening.preload()
    device = Device()
    try:
        with TemporaryDirectory(prefix="accel-") as folder, opening.overheard() as said:
            path = Path(folder) / "model.onnx"
            path.write_bytes(_graph())
            options = opening.settled({"threads": 1})
            try:
                made = opening.opened(path, options, device.stream, strict=True)
            except AccelError as error:
                raise type(error)(f"{error} {_last(said())}".strip()) from None
            import numpy as np

            made.run(None, {"x": np.ones((2, 2), np.float32)})
            del made
    finally:
        device.close()


def _last(text: str) -> str:
    """The last line of a log that names a library, such as the one that does not load."""
    lines = [line for line in text.splitlines() if ".so" in line]
    return lines[-1][-300:] if lines else ""


def _graph() -> bytes:
    """x @ x, [2, 2]: it wants cuBLAS."""
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 2]) for n in "xy"]
    node = helper.make_node("MatMul", ["x", "x"], ["y"])
    made = helper.make_graph([node], "tried", ports[:1], ports[1:])
    opset = [helper.make_opsetid("", 17)]
    data: bytes = helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString()
    return data
