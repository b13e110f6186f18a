"""The largest magnitude of each float value of a graph, over feeds.

Two reductions are put beside every value, so that each run gives two numbers a value: memory does not
grow with the number of feeds, nor with what the values weigh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from accel import graph
from accel.qdq import order
from accel.recipes._quiet import quiet
from accel.values import Feed

FLOAT = onnx.TensorProto.FLOAT
REDUCED = ("ReduceMax", "ReduceMin")
ERRORS_ONLY = 3  # ONNX Runtime's log severity


def largest(
    proto: Any, names: Sequence[str], feeds: Iterable[Feed], folder: Path
) -> dict[str, float]:
    """name -> the largest |value| seen; inf where a value was infinite or no number.

    Raises CandidateBroken where ONNX Runtime cannot run the graph."""
    tapped = folder / "tapped.onnx"
    mark = order.mark(proto, ((n, f"__{r}") for n in names for r in REDUCED))
    taps = {f"{n}{mark}__{r}": (n, r) for n in names for r in REDUCED}
    graph.save(_tapped(proto, taps), tapped)
    found = dict.fromkeys(names, 0.0)
    try:
        with quiet("fp16's measuring run"):
            session = _session(tapped)
            for feed in feeds:
                values = session.run(list(taps), dict(feed))
                ends = {tap: float(value) for tap, value in zip(taps.values(), values, strict=True)}
                for name in names:
                    _note(found, name, *(ends[name, r] for r in REDUCED))
    finally:
        for path in (tapped, tapped.with_name(f"{tapped.name}.data")):
            path.unlink(missing_ok=True)
    return found


def _note(found: dict[str, float], name: str, most: float, least: float) -> None:
    if most < least:
        return  # what runtimes give for a tensor without a value
    seen = max(abs(most), abs(least)) if numpy.isfinite([most, least]).all() else float("inf")
    found[name] = max(found[name], seen)


def _tapped(proto: Any, taps: Mapping[str, tuple[str, str]]) -> Any:
    """With further outputs: name -> (value, reduction)."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for output, (name, reduction) in taps.items():
        made.graph.node.append(helper.make_node(reduction, [name], [output], keepdims=0))
        made.graph.output.append(helper.make_tensor_value_info(output, FLOAT, []))
    return made


def _session(path: Path) -> Any:
    """Every operator as it stands: what is fused is not seen."""
    wanted = onnxruntime.SessionOptions()
    wanted.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted.log_severity_level = ERRORS_ONLY
    return onnxruntime.InferenceSession(str(path), wanted, providers=["CPUExecutionProvider"])


def of_constants(constants: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """name -> (largest |value|, share of the values that are not 0 yet vanish in float16)."""
    return {name: _extremes(numpy_helper.to_array(t)) for name, t in constants.items()}


def _extremes(array: Any) -> tuple[float, float]:
    magnitudes = numpy.abs(array)
    there = int(numpy.count_nonzero(magnitudes))
    if not magnitudes.size or not there:
        return 0.0, 0.0
    vanished = numpy.count_nonzero(magnitudes < SMALLEST / 2) - (magnitudes.size - there)
    top = float(magnitudes.max())
    return top if numpy.isfinite(top) else float("inf"), int(vanished) / there


SMALLEST = 2.0**-24  # float16's least positive value; half of it and less rounds to 0 (IEEE 754)
