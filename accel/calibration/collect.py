"""Run a graph over calibration data once, and keep a sketch of every float value in it.

Memory does not grow with the number of feeds: each feed's values are sketched and dropped. Nor does
it with the graph: values are tapped in sets whose bytes, of the largest feed so far, stay under a limit.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from accel import graph, shapes
from accel.calibration import settling
from accel.errors import CandidateBroken, UsageError
from accel.kinds import kinds
from accel.qdq import order
from accel.qdq.sites import live
from accel.sketch import Sketch
from accel.values import Feed

TAPPED_BYTES = 256 << 20  # of a run's tapped values together
FLOAT = onnx.TensorProto.FLOAT
ERRORS_ONLY = 3  # ONNX Runtime's log severity
Sizes = Mapping[str, Sequence[Collection[int]]]
LAST = ("MatMul", "Gemm", "LayerNormalization", "Attention", "Softmax")  # channels stand last


@dataclass(frozen=True)
class Seen:
    """What one pass over calibration data found."""

    sketches: Mapping[str, Sketch]  # float value of the main graph -> what is kept of it
    feeds: int  # that were run
    settled: bool  # whether it stopped since ranges no longer moved, before the data ended
    moving: tuple[str, ...] = ()  # values whose ranges moved at the last look, the most moved first


def collect(
    path: Path,
    feeds: Iterable[Feed],
    *,
    most: int | None = None,
    stop: bool = True,
    sizes: Sizes | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Seen:
    """Sketches of all float values that the graph at `path` makes or takes in.

    With `stop` it ends early, where the ranges have settled (see `settling`) and the ends of `sizes` were
    met: input -> for each axis, the sizes that the data has. Raises CandidateBroken
    where ONNX Runtime cannot run the graph, UsageError where there is no feed."""
    proto = graph.dense(path)
    axes = tapped(proto)
    sketches = {name: Sketch(axis=axis) for name, axis in axes.items()}
    given = [v.name for v in proto.graph.input if v.name in axes]
    done, watch, open_ends = 0, settling.Watch(), _ends(sizes or {})
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        taps = _Taps(proto, [n for n in axes if n not in given], Path(folder))
        for done, feed in enumerate(feeds, 1):
            for name in given:
                sketches[name].add(np.asarray(feed[name]))
            taps.run(feed, lambda name, value: sketches[name].add(value))
            progress(done)
            open_ends -= {
                (n, axis, size) for n, v in feed.items() for axis, size in enumerate(np.shape(v))
            }
            watch.look(done, sketches)
            if watch.settled and stop and not open_ends:
                break
            if done == most:
                break
    if not done:
        raise UsageError("There is no calibration data: 1 feed is the least.")
    return Seen(sketches, done, watch.settled and stop and not open_ends, watch.moving)


def _ends(sizes: Sizes) -> set[tuple[str, int, int]]:
    """The least and the largest size of each axis."""
    return {
        (name, axis, end)
        for name, axes in sizes.items()
        for axis, seen in enumerate(axes)
        if seen
        for end in (min(seen), max(seen))
    }


def tapped(proto: Any) -> dict[str, int | None]:
    """Float values of the main graph that depend on the inputs -> the axis of their channels."""
    known, alive = kinds(proto), live(proto)
    names = (*(v.name for v in proto.graph.input), *(o for n in proto.graph.node for o in n.output))
    found: dict[str, int | None] = {n: None for n in names if n in alive and known.get(n) == FLOAT}
    return found | _axes(proto, found)


def _axes(proto: Any, found: Mapping[str, int | None]) -> dict[str, int | None]:
    """Channels stand at 1 around convolutions and last around products, by who makes or reads."""
    axes: dict[str, int | None] = {}
    for node in proto.graph.node:
        axis = (
            1 if node.op_type in ("Conv", "ConvTranspose") else -1 if node.op_type in LAST else None
        )
        if axis is not None:
            for name in (*node.input[:1], *node.output[:1]):
                if name in found:  # where two nodes differ, nobody knows
                    axes[name] = axis if axes.get(name, axis) == axis else None
    return axes


def _taken(proto: Any) -> dict[str, Any]:
    """The large float weights, of which the graph keeps but inputs: all sessions share what they are given at
    each run, where each has a copy of an initializer, and another that is packed.

    What an operator of another domain reads stays: some ask for constants."""
    stay = {x for node in graph.walk(proto) if node.domain for x in node.input}
    given = {v.name for v in proto.graph.input}
    found: dict[str, Any] = {}
    for i in reversed(range(len(proto.graph.initializer))):
        tensor = proto.graph.initializer[i]
        name, count = tensor.name, math.prod(tensor.dims)
        if tensor.data_type != FLOAT or count <= shapes.HEAVY or name in stay:
            continue
        found[name] = onnxruntime.OrtValue.ortvalue_from_numpy(numpy_helper.to_array(tensor))
        if name not in given:
            port = helper.make_tensor_value_info(name, FLOAT, tensor.dims)
            proto.graph.input.append(port)
        del proto.graph.initializer[i]
    return found


class _Taps:
    """Sessions over one graph, each with some of its values as further outputs."""

    def __init__(self, proto: Any, names: Sequence[str], folder: Path) -> None:
        self._weights = _taken(proto)
        self._proto, self._folder = proto, folder
        self._bytes = dict.fromkeys(names, 0)  # the most that each was
        self._sets: list[list[str]] = [list(names)]
        self._sessions: list[Any] = []
        self._sized = False

    def _size_up(self, feed: Feed) -> None:
        """How large each value is, by its number of elements alone: all of them at once may be too much."""
        self._sized, names = True, list(self._bytes)
        mark = order.mark(self._proto, ((n, "__size") for n in names))
        asked = {f"{n}{mark}__size": n for n in names}
        sized = onnx.ModelProto()
        sized.CopyFrom(self._proto)
        sized.graph.node.extend(helper.make_node("Size", [n], [o]) for o, n in asked.items())
        kind = onnx.TensorProto.INT64
        ports = [helper.make_tensor_value_info(o, kind, []) for o in asked]
        session = self._opened(sized, ports, "sized.onnx")
        counts = _run(session, list(asked), {**self._weights, **feed})
        self._bytes = {n: 4 * int(c) for n, c in zip(names, counts, strict=True)}
        if self._size(names) > TAPPED_BYTES:
            self._split()

    def run(self, feed: Feed, take: Callable[[str, Any], None]) -> None:
        """Every tapped value of this feed, handed to `take`."""
        if not self._bytes:
            return  # no node makes a float32; asked for no names, ONNX Runtime gives all outputs
        if not self._sized:
            self._size_up(feed)
        for i, names in enumerate(self._sets):
            if i == len(self._sessions):
                self._sessions.append(self._session(names, f"tapped{i}.onnx"))
            values = _run(self._sessions[i], names, {**self._weights, **feed})
            for name in names:
                value = values.pop(0)
                self._bytes[name] = max(self._bytes[name], value.nbytes)
                take(name, value)
        if any(len(s) > 1 and self._size(s) > TAPPED_BYTES for s in self._sets):
            self._split()

    def _size(self, names: Sequence[str]) -> int:
        return sum(self._bytes[n] for n in names)

    def _split(self) -> None:
        """Sets that are filled up to the limit; a value beyond it stands alone."""
        sets: list[list[str]] = [[]]
        for name in self._bytes:
            if sets[-1] and self._size([*sets[-1], name]) > TAPPED_BYTES:
                sets.append([])
            sets[-1].append(name)
        self._sets, self._sessions = sets, []

    def _session(self, names: Sequence[str], file: str) -> Any:
        there = {v.name for v in self._proto.graph.output}
        ports = [helper.make_tensor_value_info(n, FLOAT, None) for n in names if n not in there]
        made = onnx.ModelProto()
        made.CopyFrom(self._proto)
        return self._opened(made, ports, file)

    def _opened(self, made: Any, ports: Sequence[Any], file: str) -> Any:
        """A session over the graph with these outputs more; its file is gone."""
        made.graph.output.extend(ports)
        path = self._folder / file
        graph.save(made, path)
        wanted = onnxruntime.SessionOptions()
        wanted.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        wanted.log_severity_level = ERRORS_ONLY
        wanted.enable_cpu_mem_arena = False  # it would keep what the largest feed needed
        try:
            return onnxruntime.InferenceSession(str(path), wanted, ["CPUExecutionProvider"])
        except Exception as error:  # whatever its C++ raises
            raise CandidateBroken(
                f"ONNX Runtime cannot load the graph: {graph.first_line(error)[:300]}"
            ) from None
        finally:
            for left in self._folder.glob(f"{file}*"):
                left.unlink()


def _run(session: Any, names: Sequence[str], feed: Mapping[str, Any]) -> list[Any]:
    try:
        found: list[Any] = session.run(list(names), dict(feed))
    except Exception as error:  # whatever its C++ raises
        raise CandidateBroken(
            f"ONNX Runtime cannot run the graph: {graph.first_line(error)[:300]}"
        ) from None
    return found
