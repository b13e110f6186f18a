"""Run graphs in ONNX Runtime with nothing fused: Q/DQ nodes then do what they say, on every processor."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from accel import graph, shapes
from accel.errors import CandidateBroken
from accel.values import Feed

ERRORS_ONLY = 3  # ONNX Runtime's log severity
TINY = 1e-30
WORST = 1e6  # the error of an output that is no number, or of another shape
# of the mean channel's size: one below it, a hundredth in amplitude, is held for noise
SILENT = 1e-4


def outputs(
    proto: Any, feeds: Iterable[Feed], names: Sequence[str] | None = None
) -> list[list[Any]]:
    """What a graph answers to each feed. `names`: in this order, which another graph of the model need not
    have. Raises CandidateBroken where ONNX Runtime cannot run it."""
    session = _session(_held(proto))
    return [_run(session, names, feed) for feed in feeds]


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
    """|got - want|^2 / |want|^2 over all feeds, the mean over channels and float outputs, at most WORST each.

    By channel, since one output may hold scores and places: what is small there would not be seen. Where
    the reference itself is no number nothing is compared."""
    parts = []
    for k, first in enumerate(want[0] if want else ()):
        if is_float(first):
            axis = _channel_axis([one[k].shape for one in want])
            seen = [_off(a[k], b[k], axis) for a, b in zip(got, want, strict=True)]
            lost, size = (np.sum(x, axis=0) for x in zip(*seen, strict=True))
            size = np.maximum(size, max(SILENT * float(size.mean()), TINY))
            parts.append(min(WORST, float(np.mean(lost / size))))
    return float(np.mean(parts)) if parts else 0.0


def is_float(value: Any) -> bool:
    """Is it an array of floats? ONNX Runtime gives a sequence as a list."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _channel_axis(shapes: Sequence[tuple[int, ...]]) -> int | None:
    """The shortest axis behind the first one whose size is fixed, and is not 1; None: there is none."""
    fixed = [
        (sizes[0], axis)
        for axis, sizes in enumerate(zip(*shapes, strict=False))
        if axis and len({*sizes}) == 1 and sizes[0] > 1 and len({len(s) for s in shapes}) == 1
    ]
    return min(fixed)[1] if fixed else None


def off(got: Any, want: Any) -> tuple[float, float]:
    """Squares of the difference, and of what is wanted, where that is finite."""
    lost, size = _off(got, want, None)
    return float(lost[0]), float(size[0])


def _off(got: Any, want: Any, axis: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same for each channel, [channels]; [1] without an axis."""
    apart = want.reshape(1, -1) if axis is None else np.moveaxis(want, axis, 0)
    b = apart.reshape(len(apart), -1).astype(np.float64)
    known = np.isfinite(b)
    b = np.where(known, b, 0.0)
    size = np.sum(b * b, axis=1)
    if got.shape != want.shape:
        return WORST * np.maximum(size, TINY), np.full(len(b), TINY)
    apart = got.reshape(1, -1) if axis is None else np.moveaxis(got, axis, 0)
    a = np.where(known, apart.reshape(len(apart), -1).astype(np.float64), 0.0)
    lost = np.sum((a - b) ** 2, axis=1)
    return np.where(np.isfinite(lost), lost, WORST * np.maximum(size, 1.0)), size


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
