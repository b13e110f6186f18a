"""The files that the arms load: exported, fused and quantized with each library's own tools.

Run as `python -m peer_arms.artefacts WORKLOAD NAME OUT`, one child process an artefact: what one
library does to the process (threads, monkeypatches, memory) cannot touch another.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from peer_arms import workload
from peer_arms.workload import Problem

CALIBRATION_SAMPLES = 300  # nncf.quantize's own default
HEADS, WIDTH = 12, 384  # MiniLM-L6's, which the transformers optimizer must be told
NEEDS = {  # artefact -> the artefact that it is made from
    "fused": "torchscript",
    "dynamic_per_channel": "fused",
    "dynamic_per_tensor": "fused",
    "static": "onnx",
    "nncf": "onnx",
    "nncf_control": "onnx",
    "dynamic_plain": "onnx",
}
MOST_DROP = 0.5  # points, for NNCF's accuracy control


def prepare(source: Path, name: str, root: Path, limit_s: float | None = None) -> Path:
    """The artefact's folder; made now, in a child, unless an earlier run finished it.

    Raises subprocess.TimeoutExpired where the child takes longer than `limit_s`."""
    folder = root / name
    if folder.is_dir():
        return folder
    if name in NEEDS:
        prepare(source, NEEDS[name], root)
    draft = root / f".{name}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    started = time.monotonic()
    with (root / f"{name}.log").open("w") as log:
        command = [sys.executable, "-m", "peer_arms.artefacts", source, name, root]
        where = Path(__file__).parents[1]
        subprocess.run(command, stdout=log, stderr=log, check=True, cwd=where, timeout=limit_s)
    seconds = time.monotonic() - started
    (root / f"{name}.json").write_text(json.dumps({"seconds": seconds}))
    draft.rename(folder)
    print(f"prepared {name} in {seconds:.0f} s", file=sys.stderr)
    return folder


def size(folder: Path) -> int:
    """Bytes on disk."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def torchscript(problem: Problem, _: Path, out: Path) -> None:
    """The older tracer: the only export whose attention onnxruntime's optimizer recognises.

    It recognises the plain form alone (0 of 6 with the sdpa one), hence attn_implementation."""
    import torch

    model = _plain_attention(problem.model().eval())
    axes = {k: dict(v) for k, v in problem.dynamic.items()}
    first = next(iter(axes.values()))
    axes |= {name: {0: first[0]} for name in problem.outputs}
    torch.onnx.export(
        model,
        _arguments(problem),
        out / "model.onnx",
        dynamo=False,
        opset_version=17,
        input_names=list(problem.ports),
        output_names=list(problem.outputs),
        dynamic_axes=axes,
    )


def weights(problem: Problem, _: Path, out: Path) -> None:
    """What PyTorch ships; here for its size."""
    import torch

    torch.save(problem.model().state_dict(), out / "model.pt")


def weights_bf16(problem: Problem, _: Path, out: Path) -> None:
    """The same, rounded."""
    import torch

    torch.save(problem.model().to(torch.bfloat16).state_dict(), out / "model.pt")


def opset23(problem: Problem, _: Path, out: Path) -> None:
    """The torch.export-based exporter, with ONNX's own Attention and Gelu."""
    _export(problem, out, 23)


def onnx(problem: Problem, _: Path, out: Path) -> None:
    """What OpenVINO and onnxruntime's static quantizer take."""
    _export(problem, out, 18)


def _export(problem: Problem, out: Path, opset: int) -> None:
    import torch

    dims: dict[str, Any] = {}
    shapes = {
        port: {
            axis: dims.setdefault(symbol, torch.export.Dim(symbol, min=1, max=512))
            for axis, symbol in problem.dynamic.get(port, {}).items()
        }
        for port in problem.ports
    }
    torch.onnx.export(
        problem.model().eval(),
        _arguments(problem),
        out / "model.onnx",
        dynamo=True,
        opset_version=opset,
        input_names=list(problem.ports),
        output_names=list(problem.outputs),
        dynamic_shapes=tuple(shapes.values()),
        external_data=False,
    )


def fused(_: Problem, source: Path, out: Path) -> None:
    """onnxruntime's transformers optimizer; an attention that it misses is an error here."""
    from onnxruntime.transformers import optimizer

    model = optimizer.optimize_model(
        str(source), "bert", num_heads=HEADS, hidden_size=WIDTH, opt_level=0, use_gpu=False
    )
    found = model.get_fused_operator_statistics()
    assert found.get("Attention") == 6, found
    model.save_model_to_file(str(out / "model.onnx"))


def dynamic_per_channel(_: Problem, source: Path, out: Path) -> None:
    """Signed weights: unsigned ones are twice as slow on AVX512-VNNI."""
    _dynamic(source, out, per_channel=True)


def dynamic_per_tensor(_: Problem, source: Path, out: Path) -> None:
    """One scale a weight matrix."""
    _dynamic(source, out, per_channel=False)


def _dynamic(source: Path, out: Path, per_channel: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        out / "model.onnx",
        per_channel=per_channel,
        weight_type=QuantType.QInt8,
        # Shape inference stops at the fused operators; 1 is ONNX's number of float.
        extra_options={"DefaultTensorType": 1},
    )


def static(problem: Problem, source: Path, out: Path) -> None:
    """onnxruntime's own recipe: pre-process, then Q/DQ with MinMax calibration.

    Unsigned activations: with signed ones it was 2.7 times slower on AVX512-VNNI."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(_calibration(problem))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    ready = out / "ready.onnx"
    quant_pre_process(str(source), str(ready))
    quantize_static(
        ready,
        out / "model.onnx",
        Reader(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    ready.unlink()


def nncf(problem: Problem, source: Path, out: Path) -> None:
    """NNCF's post-training quantization for OpenVINO, its transformer preset for text."""
    import nncf as library
    import openvino

    text = "input_ids" in problem.ports
    model = library.quantize(
        openvino.Core().read_model(source),
        library.Dataset(_calibration(problem)),
        model_type=library.ModelType.TRANSFORMER if text else None,
        subset_size=CALIBRATION_SAMPLES,
    )
    openvino.save_model(model, out / "model.xml", compress_to_fp16=False)


def dynamic_plain(_: Problem, source: Path, out: Path) -> None:
    """onnxruntime's dynamic int8 of the plain export: what its own documentation begins with."""
    _dynamic(source, out, per_channel=True)


def nncf_control(problem: Problem, source: Path, out: Path) -> None:
    """NNCF's quantize_with_accuracy_control on the search split, within half a point."""
    import nncf as library
    import openvino

    assert problem.samples is not None
    given = list(problem.samples("search"))

    def validate(compiled: Any, _: Any) -> tuple[float, None]:
        request = compiled.create_infer_request()

        def call(feed: Any) -> dict[str, np.ndarray]:
            found = request.infer(dict(feed))
            return {k: found[i].copy() for i, k in enumerate(problem.outputs)}

        rows = [
            problem.row(call(f) if isinstance(f, dict) else [call(x) for x in f], label)
            for f, label in given
        ]
        return float(problem.metric(np.asarray(rows, np.float64))), None

    model = library.quantize_with_accuracy_control(
        openvino.Core().read_model(source),
        calibration_dataset=library.Dataset(_calibration(problem)),
        validation_dataset=library.Dataset([0]),
        validation_fn=validate,
        max_drop=MOST_DROP,
        drop_type=library.DropType.ABSOLUTE,
        model_type=library.ModelType.TRANSFORMER if "input_ids" in problem.ports else None,
        subset_size=CALIBRATION_SAMPLES,
    )
    openvino.save_model(model, out / "model.xml", compress_to_fp16=False)


def _calibration(problem: Problem) -> list[dict[str, np.ndarray]]:
    found = [dict(feed) for feed in problem.calibration()]
    return found[:CALIBRATION_SAMPLES]


def _arguments(problem: Problem) -> tuple[Any, ...]:
    import torch

    example = problem.inputs()
    return tuple(torch.from_numpy(example[name]) for name in problem.ports)


def _plain_attention(model: Any) -> Any:
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            config._attn_implementation = "eager"
    return model


def main(source: str, name: str, root: str) -> None:
    """Make one artefact in its draft folder."""
    from_ = Path(root) / NEEDS[name] / "model.onnx" if name in NEEDS else Path()
    globals()[name](workload.load(Path(source)), from_, Path(root) / f".{name}.draft")


if __name__ == "__main__":
    main(*sys.argv[1:])
