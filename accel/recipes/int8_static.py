"""int8_static: Q/DQ nodes with ranges from calibration data.

    q(x) = clamp(round(x / s) + z),  s = (max - min) / 255

By ONNX Runtime's quantizer with its MinMax calibrator (int8_mixed has more ranges, of one pass) or by NNCF, whose transformer scheme
(SmoothQuant, arXiv 2211.10438, and fast bias correction) keeps accuracy where plain ranges lose it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accel import graph
from accel.errors import CandidateBroken
from accel.protocols import Quantized
from accel.recipes import _calibration, _fuse, _raise, _taken
from accel.recipes._quiet import opened, quiet
from accel.values import Feed, Model, Options, QuantStyle

NEEDS_CALIBRATION = True
MOST_FEEDS = 300  # NNCF's own default; ranges had settled well before on the models tried
# What TensorRT fuses into int8 kernels has Q/DQ pairs at the inputs of these and none at their outputs,
# and its DequantizeLinear takes no int32, which is what a quantized bias is. (TensorRT documentation,
# Explicit Quantization; onnx-tensorrt, docs/operators.md)
WEIGHTED = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


def variants(style: QuantStyle) -> tuple[Options, ...]:
    """NNCF for OpenVINO, whose int8 kernels take its graphs; ONNX Runtime's own for itself.

    Asymmetric activations lose less, symmetric ones need no zero points: in one final on MiniLM
    they took 0.96 [0.91, 1.01] of the time on sentences and 0.99 on batches, for 0.09 pt."""
    if "openvino" in style.operators:
        return tuple({"tool": "nncf", "activations": a} for a in ("asymmetric", "symmetric"))
    return ({"tool": "onnxruntime", "method": "MinMax"},)


def apply(
    model: Model,
    calibration: Iterable[Feed] | None,
    style: QuantStyle,
    options: Options,
    out: Path,
) -> Quantized:
    """Raises UsageError for calibration data that is absent, empty, NaN or not for this model,
    CandidateBroken for a graph that the tool fails on or finds nothing to quantize in."""
    feeds = _calibration.checked("int8_static", calibration, model, MOST_FEEDS)
    proto = graph.dense(model.path)
    transformer = _fuse.is_transformer(proto)
    path = out / "model.onnx"
    raised = None
    if (higher := _raise.raised(proto)) is not proto:
        raised = out / "raised.onnx"
        graph.save(higher, raised)
        model = dataclasses.replace(model, path=raised)
    tool = f"int8_static's {options['tool']}"
    with quiet(tool):
        if options["tool"] == "onnxruntime":
            _taken.refuse(proto)
            _onnxruntime(model, feeds, style, str(options["method"]), path)
        else:
            _nncf(model, feeds, transformer, str(options["activations"]), path)
    how = options.get("method") or options["activations"]
    line = f"int8_static {options['tool']} {how} on {len(feeds)} feeds"
    if raised is not None:
        raised.unlink()
        line += f", raised to opset {_raise.PER_CHANNEL_OPSET}"
    facts: dict[str, Any] = {"calibration feeds": len(feeds)}
    made = graph.operators(opened(tool, path))
    facts["QuantizeLinear"] = made.get("QuantizeLinear", 0)
    if not facts["QuantizeLinear"]:
        raise CandidateBroken("nothing was quantized: no operator with weights in this graph")
    return Quantized(graph.describe(path, (*model.trail, line)), facts)


def _nncf(model: Model, feeds: list[Feed], transformer: bool, activations: str, path: Path) -> None:
    """On the ONNX graph itself: its IR was as quick and as accurate, but only OpenVINO reads it."""
    import nncf
    import onnx

    kind = nncf.ModelType.TRANSFORMER if transformer else None
    presets = {
        "asymmetric": nncf.QuantizationPreset.MIXED,  # weights are symmetric in both
        "symmetric": nncf.QuantizationPreset.PERFORMANCE,
    }
    # an int8 table saves little time and costs memory in every static shape that is compiled
    tables = nncf.IgnoredScope(types=["Gather"], validate=False) if transformer else None
    made = nncf.quantize(
        onnx.load(str(model.path)),
        nncf.Dataset([dict(f) for f in feeds]),
        subset_size=len(feeds),
        preset=presets[activations],
        model_type=kind,
        ignored_scope=tables,
    )
    onnx.save(made, str(path))


def _onnxruntime(
    model: Model, feeds: list[Feed], style: QuantStyle, method: str, path: Path
) -> None:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(feeds)

        def get_next(self) -> Any:
            return next((dict(f) for f in self._left), None)

    extra: dict[str, Any] = {
        "ActivationSymmetric": style.activation_symmetric,
        "WeightSymmetric": style.weight_symmetric,
        "DefaultTensorType": 1,
    }
    for_tensorrt = "tensorrt" in style.operators
    if for_tensorrt:
        extra |= {"QuantizeBias": False, "OpTypesToExcludeOutputQuantization": WEIGHTED}
    prepared = path.with_name("prepared.onnx")
    quant_pre_process(str(model.path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        calibrate_method=getattr(CalibrationMethod, method),
        per_channel=style.per_channel,
        reduce_range=style.reduce_range,
        activation_type=QuantType.QInt8 if style.activation_signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8 if style.weight_signed else QuantType.QUInt8,
        op_types_to_quantize=WEIGHTED if for_tensorrt else None,
        extra_options=extra,
    )
    prepared.unlink()
