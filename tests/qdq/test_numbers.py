"""Scales, zero points and quantized weights: 0 stays 0, and no number is off by more than half a step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from accel.qdq import numbers
from accel.qdq.numbers import Steps

DRAW = np.random.default_rng(7)
TYPES = [Steps(s, m, b) for s, m, b in itertools.product((True, False), (True, False), (7, 8))]
RANGES = [(-1.0, 2.0), (0.0, 6.0), (-3.0, 0.0), (-1e-30, 1e-30), (0.0, 0.0), (-5.0, 0.01)]


@pytest.mark.parametrize("steps", TYPES, ids=str)
@pytest.mark.parametrize("ends", RANGES, ids=str)
def test_zero_is_kept_and_the_range_is_covered(ends: tuple[float, float], steps: Steps) -> None:
    """Both ends are reached within a step; the zero point is a number of the type."""
    scale, zero = numbers.of_range(*ends, steps)
    assert scale > 0
    assert zero.dtype == steps.dtype
    assert steps.lowest <= int(zero) <= steps.lowest + steps.count + 1
    reach = [
        (q - int(zero)) * float(scale) for q in (steps.lowest, steps.lowest + 2**steps.bits - 1)
    ]
    if any(ends):
        assert reach[0] <= ends[0] + float(scale)
        assert reach[1] >= ends[1] - float(scale)
    assert (steps.middle == int(zero)) or not steps.symmetric


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("steps", TYPES, ids=str)
def test_weights_come_back_to_half_a_step(steps: Steps, axis: int | None) -> None:
    """Each channel with a scale of its own, or all with one; a channel of zeros comes back as zeros."""
    weight = (DRAW.normal(size=(6, 5)) * np.geomspace(1e-3, 10, 6)[:, None]).astype(np.float32)
    weight[3] = 0
    quantized, scale, zero = numbers.of_weight(weight, axis, steps)
    assert quantized.dtype == zero.dtype == steps.dtype
    assert scale.shape == zero.shape == (() if axis is None else (weight.shape[axis],))
    shape = [-1 if i == axis else 1 for i in range(2)] if axis is not None else []
    wide, shift = scale.reshape(shape), zero.astype(np.float32).reshape(shape)
    back = (quantized.astype(np.float32) - shift) * wide
    assert np.all(np.abs(back - weight) <= 0.51 * wide)
    assert np.all(back[3] == 0)


def test_seven_bits_stay_within_seven_bits() -> None:
    """Two products of them fit in int16."""
    quantized, _, _ = numbers.of_weight(DRAW.normal(size=(40, 40)), 0, Steps(True, True, 7))
    assert int(quantized.min()) >= -64
    assert int(quantized.max()) <= 63


def test_a_bias_never_overflows() -> None:
    """A dead channel, tiny weights and a bias: its scale grows until the bias fits in int32."""
    weight = np.full((1, 4), 1e-12, np.float32)
    bias = np.full(1, 3.0, np.float32)
    least = numbers.least_scale(bias, 0.01)
    _, scale, _ = numbers.of_weight(weight, 0, Steps(True, True), least)
    whole = numbers.of_bias(bias, 0.01, scale)
    assert whole.dtype == np.int32
    assert whole[0] * float(scale[0]) * 0.01 == pytest.approx(3.0, rel=1e-6)
