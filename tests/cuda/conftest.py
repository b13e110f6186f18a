"""PTX that several test files start from."""

from __future__ import annotations

import pytest

from accel.cuda import ptx
from accel.cuda.ptx import Ptx


@pytest.fixture(scope="session")
def made() -> Ptx:
    """A real kernel for an edge module."""
    return ptx.compile("residual_layernorm", "float32", {"epsilon": 1e-12}, "8.7")
