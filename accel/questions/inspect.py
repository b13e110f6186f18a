"""accel inspect: what is in an ONNX file, and whether it would build on a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accel import feeds, graph, legality
from accel import target as targets
from accel.questions import _remarks
from accel.values import Finding, Port, Request


@dataclass(frozen=True)
class Inspected:
    """Ports, opsets, operators, parameters, size, dtypes."""

    path: Path
    digest: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opsets: Mapping[str, int]
    operators: Mapping[str, int]
    parameters: int
    size_bytes: int
    dtypes: Mapping[str, int]  # initializer elements of each
    remarks: tuple[str, ...] = ()  # what is legal, and seldom meant


def inspect(path: str | Path) -> Inspected:
    """Raises BadModel for a file that is missing, broken or foreign."""
    file = Path(path)
    proto = graph.checked(file)
    model = graph.described(proto, file)
    beside = sum((file.parent / name).stat().st_size for name in graph.external_data(file, proto))
    return Inspected(
        path=file,
        digest=model.digest,
        inputs=model.inputs,
        outputs=model.outputs,
        opsets={o.domain or "ai.onnx": o.version for o in proto.opset_import},
        operators=graph.operators(proto),
        parameters=graph.parameters(proto),
        size_bytes=file.stat().st_size + beside,
        dtypes=graph.dtype_census(proto),
        remarks=tuple(_remarks.of(proto, file)),
    )


@dataclass(frozen=True)
class Judged:
    """What speaks against a graph on a target, worst first, and what was mended in the file."""

    path: Path  # of the graph that was judged: the mended one where there is one
    target: str
    findings: tuple[Finding, ...]
    fixed: tuple[str, ...] = ()


def judge(
    path: Path,
    target: str,
    data: str | None = None,
    out: Path | None = None,
    lint: bool = False,
) -> Judged:
    """Static checks, with `lint` those of Q/DQ alone; `data` is an .npz of feeds, whose sizes the dynamic axes will have.

    With `out`, what can be mended is, into that file, and what is left is told of it. Raises
    UsageError for an unknown target and for data that does not fit, BadModel like `inspect`."""
    wanted, only = targets.load(target), "qdq" if lint else ""
    requests = [] if data is None else _requests(path, data)
    fixed = () if out is None else legality.fix(path, wanted, out, only)
    judged = path if out is None or not fixed else out
    return Judged(judged, wanted.name, legality.check(judged, wanted, requests, only), fixed)


def _requests(path: Path, data: str) -> list[Request]:
    given = feeds.given(data, graph.describe(path).inputs)
    return [Request("feeds", 1.0, feed) for feed in given]
