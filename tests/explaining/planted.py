"""Faults that are planted into a converted graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from accel.values import QuantStyle

U8S8 = QuantStyle(True, False, True, False, True)


def changed(path: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, folder / "planted.onnx")
    return folder / "planted.onnx"


def scaled(name: str, factor: float) -> Callable[[Any], None]:
    def change(proto: Any) -> None:
        tensor = next(t for t in proto.graph.initializer if t.name.endswith(name))
        values = (numpy_helper.to_array(tensor) * np.float32(factor)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return change
