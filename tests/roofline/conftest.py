"""Graphs as text, their weights by sizes: nothing here depends on what weights hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write(text, name=(dtype, sizes...)): a model; these weights are zeros."""

    def written(text: str, **weights: tuple[Any, ...]) -> Path:
        import ml_dtypes
        import numpy as np
        import onnx

        made = onnx.parser.parse_model(text)
        for name, (dtype, *sizes) in weights.items():
            kind = getattr(ml_dtypes, dtype) if hasattr(ml_dtypes, dtype) else dtype
            made.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(sizes, kind), name))
        onnx.save(made, tmp_path / "m.onnx")
        return tmp_path / "m.onnx"

    return written
