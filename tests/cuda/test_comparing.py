"""What is right and what is wrong about an output."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from accel.cuda.comparing import excess

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("got", "want", "allowed", "found"),
    [
        ([1.0, 2.0], [1.0, 2.0], 1e-6, 0.0),
        ([1.02], [1.0], 0.01, 1.0),  # |got - want| / (1 + |want|)
        ([99.0], [100.0], 0.01, 1 / 101 / 0.01),
        ([NAN, 1.0], [NAN, 1.0], 1e-6, 0.0),
        ([INF, -INF], [INF, -INF], 1e-6, 0.0),
        ([NAN], [1.0], 1e-6, INF),
        ([1.0], [NAN], 1e-6, INF),
        ([INF], [-INF], 1e-6, INF),
        ([INF], [1.0], 1e-6, INF),
        ([1.0, 2.0], [1.0], 1e-6, INF),
        ([3], [3], 0.0, 0.0),
        ([4], [3], 0.0, INF),
        ([], [], 0.0, 0.0),
    ],
)
def test_the_worst_error_over_the_allowed(
    got: Any, want: Any, allowed: float, found: float
) -> None:
    """1 is just right; NaN and infinity must stand alike; where nothing is allowed, all must."""
    assert excess(np.array(got), np.array(want), allowed) == pytest.approx(found)


def test_narrow_types_are_compared_as_numbers() -> None:
    """int8 does not wrap, bool is 0 and 1."""
    assert excess(np.array([-128], np.int8), np.array([127], np.int8), 1.0) == 255 / 128
    assert excess(np.array([True]), np.array([False]), 1.0) == 1.0
