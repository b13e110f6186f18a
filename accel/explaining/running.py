"""Run graphs in ONNX Runtime with nothing fused: Q/DQ nodes then do what they say, on every processor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from accel import graph, shapes
from accel.errors import CandidateBroken
from accel.values import Feed

ERRORS_ONLY = 3  # ONNX Runtime's log severity
TINY = 1e-30
WORST = 1e6  # the error of an output that is no number, or of another shape


def outputs(proto: Any, feeds: Iterable[Feed]) -> list[list[Any]]:
    """What a graph answers to each feed. Raises CandidateBroken where ONNX Runtime cannot run it."""
    session = _session(_held(proto))
    return [_run(session, None, feed) for feed in feeds]


def values(proto: Any, names: Sequence[str], feeds: Iterable[Feed]) -> Iterator[dict[str, Any]]:
    """Inner values by name, a feed at a time. Raises CandidateBroken as `outputs` does."""
    made = onnx.ModelProto()
    made.CopyFrom(_held(proto))
    there = {v.name for v in made.graph.output} | {v.name for v in made.graph.input}
    made.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in there)
    session = _session(made)
    asked = [n for n in names if n not in {v.name for v in made.graph.input}]
    for feed in feeds:
        yield dict(feed) | dict(zip(asked, _run(session, asked, feed), strict=True))


def error(got: Sequence[Sequence[Any]], want: Sequence[Sequence[Any]]) -> float:
    """|got - want|^2 / |want|^2 over all feeds, the mean over float outputs, at most WORST each.

    Where the reference itself is no number nothing is compared."""
    parts = []
    for k, first in enumerate(want[0] if want else ()):
        if first.dtype.kind == "f":
            seen = [off(a[k], b[k]) for a, b in zip(got, want, strict=True)]
            lost, size = (sum(x) for x in zip(*seen, strict=True))
            parts.append(min(WORST, lost / max(size, TINY)))
    return float(np.mean(parts)) if parts else 0.0


def off(got: Any, want: Any) -> tuple[float, float]:
    """Squares of the difference, and of what is wanted, where that is finite."""
    if got.shape != want.shape:
        return WORST * max(float(np.sum(np.square(want, dtype=np.float64))), TINY), TINY
    known = np.isfinite(want)
    a, b = got[known].astype(np.float64), want[known].astype(np.float64)
    size = float(b @ b) if b.size else 0.0
    lost = float(np.sum((a - b) ** 2))
    return (lost if np.isfinite(lost) else WORST * max(size, 1.0)), size


def _run(session: Any, names: Sequence[str] | None, feed: Feed) -> list[Any]:
    try:
        found: list[Any] = session.run(names, dict(feed))
    except Exception as error:  # whatever its C++ raises
        raise CandidateBroken(
            f"ONNX Runtime cannot run the graph: {graph.first_line(error)[:300]}"
        ) from None
    return found


def _held(proto: Any) -> Any:
    """The graph with an Identity behind each value of float16.

    ONNX Runtime computes float16 nodes in float32 on a CPU and takes out the casts between them, with
    nothing else optimized too: what overflows or is rounded there would not be seen."""
    known = shapes.infer(proto).graph
    kinds = (*known.value_info, *known.output)
    half = {v.name for v in kinds if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    if not half:
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    made.graph.ClearField("node")
    for node in proto.graph.node:
        copy = made.graph.node.add()
        copy.CopyFrom(node)
        for i, name in enumerate(node.output):
            if name in half:
                copy.output[i] = f"{name}__free"
                made.graph.node.append(helper.make_node("Identity", [f"{name}__free"], [name]))
    made.graph.ClearField("value_info")
    return made


def _session(proto: Any) -> Any:
    wanted = onnxruntime.SessionOptions()
    wanted.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted.log_severity_level = ERRORS_ONLY
    try:
        if proto.ByteSize() < graph.INLINE_LIMIT_BYTES:
            text = proto.SerializeToString()
            return onnxruntime.InferenceSession(text, wanted, ["CPUExecutionProvider"])
        with tempfile.TemporaryDirectory(prefix="accel-") as folder:
            path = Path(folder, "model.onnx")
            graph.save(proto, path)
            return onnxruntime.InferenceSession(str(path), wanted, ["CPUExecutionProvider"])
    except Exception as error:  # whatever its C++ raises
        raise CandidateBroken(
            f"ONNX Runtime cannot load the graph: {graph.first_line(error)[:300]}"
        ) from None
