"""A small convolutional network, what it is run on, and its int8 form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel import testing
from accel.recipes import int8_mixed
from accel.values import Model
from tests.explaining.planted import U8S8


@pytest.fixture(scope="module")
def feeds() -> list[dict[str, Any]]:
    draw = np.random.default_rng(2)
    return [{"x": draw.normal(size=(8, 3, 8, 8)).astype(np.float32)} for _ in range(6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return testing.convnet(tmp_path_factory.mktemp("float") / "m.onnx", channels=16)


@pytest.fixture(scope="module")
def int8(model: Model, feeds: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    made = int8_mixed.apply(model, feeds, U8S8, {"ranges": "minmax"}, folder)
    return made.model.path
