"""residual_layernorm over random shapes, its own source in the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.cuda.simulator import Simulator
from accel.kernels import residual_layernorm as kernel
from accel.kernels._device import stored
from accel.protocols import Case

SETTINGS = settings(max_examples=8, derandomize=True, deadline=None)
EXACT = 2.0**-4  # steps of inputs whose sums and differences float32 holds exactly
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 300))
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def run() -> Iterator[Any]:
    """y and s of x, residual, gamma and beta."""
    with Simulator() as simulator:

        def call(dtype: str, **inputs: Any) -> tuple[Any, Any]:
            found = simulator("residual_layernorm", dtype, Case("drawn", inputs)).outputs
            return found["y"].astype(np.float64), found["s"].astype(np.float64)

        yield call


def _drawn(shape: tuple[int, ...], seed: int, dtype: str = "float32") -> dict[str, Any]:
    """Multiples of 1/16, different enough within a row that epsilon does not count."""
    draw = np.random.default_rng(seed)
    x = draw.integers(-64, 64, shape) * EXACT
    x[..., 0], x[..., -1] = -4, 4
    row = shape[-1:]
    inputs = {
        "x": x,
        "residual": draw.integers(-8, 8, shape) * EXACT,
        "gamma": 1 + draw.normal(size=row) / 8,
        "beta": draw.normal(size=row) / 8,
    }
    return {name: stored(values, dtype) for name, values in inputs.items()}


@SETTINGS
@given(shape=SHAPES, seed=SEEDS, shift=st.sampled_from((-2.0, 0.5, 8.0)))
def test_a_shift_of_x_moves_the_sum_and_not_the_norm(
    run: Any, shape: tuple[int, ...], seed: int, shift: float
) -> None:
    """y stays to rounding, s moves by exactly the shift."""
    inputs = _drawn(shape, seed)
    y, s = run("float32", **inputs)
    moved, sums = run("float32", **{**inputs, "x": inputs["x"] + np.float32(shift)})
    assert np.array_equal(sums, s + shift)
    assert np.all(np.abs(moved - y) <= 2e-5 * (1 + np.abs(y)))


@SETTINGS
@given(shape=SHAPES, seed=SEEDS, dtype=st.sampled_from(kernel.DTYPES), level=st.sampled_from((0.0, 0.5, -2.0)))  # fmt: skip
def test_with_gamma_one_a_row_has_betas_mean_and_variance_one(
    run: Any, shape: tuple[int, ...], seed: int, dtype: str, level: float
) -> None:
    """To the output's rounding, for every dtype."""
    inputs = _drawn(shape, seed, dtype)
    flat = {"gamma": 1.0, "beta": level}
    inputs |= {n: stored(np.full(shape[-1:], value), dtype) for n, value in flat.items()}
    y, _ = run(dtype, **inputs)
    allowed = 8 * kernel.TOLERANCE[dtype] * (1 + abs(level))
    assert np.all(np.abs(y.mean(-1) - level) <= allowed)
    assert np.all(np.abs(y.var(-1) - 1) <= allowed)


@SETTINGS
@given(shape=SHAPES, seed=SEEDS, dtype=st.sampled_from(kernel.DTYPES), whole=st.booleans())
def test_a_residual_that_repeats_is_one_that_was_repeated(
    run: Any, shape: tuple[int, ...], seed: int, dtype: str, whole: bool
) -> None:
    """Bit for bit: one row for all, or the rows of one batch for each; the sums are exact here."""
    inputs = _drawn(shape, seed, dtype)
    part = inputs["residual"][:1] if whole else inputs["residual"][:1, :1]
    repeated = np.ascontiguousarray(np.broadcast_to(part, shape))
    few = run(dtype, **{**inputs, "residual": part})
    many = run(dtype, **{**inputs, "residual": repeated})
    assert all(np.array_equal(a, b) for a, b in zip(few, many, strict=True))
    assert np.array_equal(few[1], inputs["x"].astype(np.float64) + repeated.astype(np.float64))
