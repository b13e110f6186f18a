"""A network and its int8 form, and what was planted into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Draw = np.random.Generator


@dataclass(frozen=True)
class Case:
    """A network: in float, quantized by ONNX Runtime, and how to quantize it again."""

    name: str
    reference: Any
    base: Any
    quantize: Callable[[Any, Any], Any]  # (float graph, calibration images) -> Q/DQ graph
    calibration: NDArray[Any]


@dataclass(frozen=True)
class Fault:
    """What was planted, and where: any of these values of the reference is a hit."""

    reference: Any
    candidate: Any
    sites: tuple[str, ...]
    calibration: NDArray[Any] | None = None  # where it is the calibration data that is at fault


def copy(proto: Any) -> Any:
    """Another one like it."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made


def array(proto: Any, name: str) -> NDArray[Any]:
    """An initializer."""
    found: NDArray[Any] = numpy_helper.to_array(
        next(t for t in proto.graph.initializer if t.name == name)
    )
    return found


def replace(proto: Any, name: str, values: Any) -> None:
    """An initializer's values."""
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), name))
