"""Which libraries are compared, each with its own best settings, and how an arm is started.

An arm is an artefact (a file made once, see `artefacts`), a starter here, and its settings. A
starter gives a callable: a dict of numpy arrays -> a dict of numpy arrays that the caller owns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from peer_arms.workload import Problem

Call = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
THREADS = 2
ACCEL = "accel"


@dataclass(frozen=True)
class Arm:
    """One row of the table."""

    name: str
    starter: str
    artefact: str = ""  # a name in `artefacts.MAKERS`; empty: nothing is prepared
    settings: Mapping[str, Any] = field(default_factory=dict)
    bf16: bool = False  # without the instructions a hint is taken in silence, and 16x slower
    path: Path | None = None  # the artefact's folder, once it is made


COMMON = (
    Arm("pytorch compile", "torch_compile", "weights"),
    Arm("pytorch compile bf16", "torch_compile", "weights_bf16", {"bf16": True}, bf16=True),
    Arm("openvino f32", "openvino", "onnx", {"precision": "f32"}),
    Arm("openvino bf16", "openvino", "onnx", {"precision": "bf16"}, bf16=True),
    Arm("openvino nncf int8", "openvino", "nncf", {"precision": "f32"}),
    Arm("openvino nncf int8 + bf16", "openvino", "nncf", {"precision": "bf16"}, bf16=True),
)
ARMS: Mapping[str, tuple[Arm, ...]] = {
    "minilm": (
        Arm("pytorch eager", "torch_eager", "weights"),
        Arm("onnxruntime fp32, opset 23", "onnxruntime", "opset23"),
        Arm("onnxruntime fp32, fused", "onnxruntime", "fused"),
        Arm("onnxruntime dynamic int8, per channel", "onnxruntime", "dynamic_per_channel"),
        Arm("onnxruntime dynamic int8, per tensor", "onnxruntime", "dynamic_per_tensor"),
        *COMMON,
    ),
    "resnet20": (
        Arm("pytorch eager, channels last", "torch_eager", "weights", {"channels_last": True}),
        Arm("onnxruntime fp32", "onnxruntime", "onnx"),
        Arm("onnxruntime static int8", "onnxruntime", "static"),
        *COMMON,
    ),
}
QUANTIZED = (  # what benchmarks/quantization.py compares
    Arm("fp32", "onnxruntime", "onnx"),
    Arm("onnxruntime dynamic int8", "onnxruntime", "dynamic_plain"),
    Arm("onnxruntime static int8", "onnxruntime", "static"),
    Arm("nncf int8", "openvino", "nncf", {"precision": "f32"}),
    Arm("nncf accuracy control", "openvino", "nncf_control", {"precision": "f32"}),
)


def has_bf16() -> bool:
    """Whether this CPU computes in bf16 (Linux's names of the two instruction sets)."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def start(arm: Arm, problem: Problem) -> Call:
    """The arm's callable, in this process."""
    call: Call = globals()[f"_{arm.starter}"](problem, arm.path, **arm.settings)
    return call


def _torch_eager(problem: Problem, _: Path | None, channels_last: bool = False) -> Call:
    return _torch_call(problem, _torch_model(problem, channels_last))


def _torch_compile(problem: Problem, _: Path | None, bf16: bool = False) -> Call:
    """Freezing inlines weights and packs them for oneDNN (torch._inductor.config.freezing)."""
    import torch

    images = any(v.ndim == 4 for v in problem.inputs().values())
    model = _torch_model(problem, images)
    torch._inductor.config.freezing = True
    torch._dynamo.config.cache_size_limit = 64
    compiled = torch.compile(model.to(torch.bfloat16) if bf16 else model, dynamic=not images)
    return _torch_call(problem, compiled, torch.bfloat16 if bf16 else None)


def _torch_model(problem: Problem, channels_last: bool) -> Any:
    import torch

    torch.set_num_threads(THREADS)
    model = problem.model().eval()
    return model.to(memory_format=torch.channels_last) if channels_last else model


def _torch_call(problem: Problem, model: Any, dtype: Any = None) -> Call:
    import torch

    def call(feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = [torch.from_numpy(feed[name]) for name in problem.ports]
        if dtype is not None:
            given = [t.to(dtype) if t.is_floating_point() else t for t in given]
        with torch.inference_mode():
            found = model(*given)
        found = found if isinstance(found, tuple | list) else (found,)
        return {k: v.float().numpy() for k, v in zip(problem.outputs, found, strict=True)}

    return call


def _onnxruntime(_: Problem, path: Path) -> Call:
    """All graph optimisations are onnxruntime's default; spinning too (off is 1.7x slower)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    names = [o.name for o in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, dict(feed)), strict=True))


def _openvino(problem: Problem, path: Path, precision: str) -> Call:
    """LATENCY hint and one stream; dynamic shapes, as the model was given."""
    import openvino

    file = next(p for p in (path / "model.xml", path / "model.onnx") if p.exists())
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = core.compile_model(core.read_model(file), "CPU", settings).create_infer_request()

    def call(feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = request.infer(dict(feed), share_inputs=True, share_outputs=True)
        # Outputs live in the request's memory, which the next call overwrites.
        return {k: found[i].copy() for i, k in enumerate(problem.outputs)}

    return call


def _accel(_: Problem, path: Path) -> Call:
    """The release, through its public door; the call copies outputs, as `accel.load` promises."""
    from accel import release

    os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
    return release.load(path)
