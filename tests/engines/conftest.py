"""The engines that take any graph and need no GPU."""

from __future__ import annotations

from typing import Any

import pytest

from accel import catalog
from accel.errors import MissingExtra


@pytest.fixture(params=["onnxruntime_cpu", "openvino", "reference"])
def member(request: pytest.FixtureRequest) -> Any:
    """One engine after the other."""
    try:
        return catalog.load("engines", request.param)
    except MissingExtra as error:
        pytest.skip(f"{error} instead: the other engines")
