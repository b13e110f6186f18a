"""accel inspect: what is in an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accel import graph
from accel.values import Port


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


def inspect(path: Path) -> Inspected:
    """Raises BadModel for a file that is missing, broken or foreign."""
    proto = graph.open_model(path)
    model = graph.describe(path)
    beside = sum((path.parent / name).stat().st_size for name in graph.external_data(path))
    return Inspected(
        path=path,
        digest=model.digest,
        inputs=model.inputs,
        outputs=model.outputs,
        opsets={o.domain or "ai.onnx": o.version for o in proto.opset_import},
        operators=graph.operators(proto),
        parameters=graph.parameters(proto),
        size_bytes=path.stat().st_size + beside,
        dtypes=graph.dtype_census(proto),
    )
