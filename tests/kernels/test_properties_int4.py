"""matmul_dequant_int4 over random shapes, as it is compiled, in the emulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel import testing
from accel.kernels import matmul_dequant_int4 as kernel
from accel.kernels._device import stored
from accel.protocols import Case

SETTINGS = settings(max_examples=30, derandomize=True, deadline=None)


@pytest.fixture(scope="module")
def run() -> Any:
    """What was compiled, on the CPU."""
    return testing.emulate


@st.composite
def _cases(draw: Any, dtype: st.SearchStrategy[str]) -> tuple[str, Case]:
    group = draw(st.sampled_from(kernel.GROUPS))
    groups, columns = draw(st.integers(1, 384 // group)), draw(st.integers(1, 40))
    leading = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    values = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(dtype)
    inputs = {
        "x": stored(values.normal(size=(*leading, groups * group)), kind),
        "packed": values.integers(0, 256, (columns, groups * group // 2), np.uint8),
        "scales": stored(values.uniform(0.01, 0.02, (columns, groups)), kind),
        "zero_points": values.integers(0, 256, (columns, (groups + 1) // 2), np.uint8),
    }
    return kind, Case("drawn", inputs, {"group": group}, draw(st.sampled_from((0, 0, 1))))


def _weights(case: Case) -> Any:
    """[N, K] in float64, one by one: not as the reference takes them apart."""
    packed, scales, zeros = (case.inputs[n] for n in ("packed", "scales", "zero_points"))
    group = (case.baked or {})["group"]
    found = np.empty((packed.shape[0], packed.shape[1] * 2))
    for n, k in np.ndindex(found.shape):
        g = k // group
        q = int(packed[n, k // 2]) >> 4 * (k % 2) & 15
        zero = int(zeros[n, g // 2]) >> 4 * (g % 2) & 15
        found[n, k] = (q - zero) * float(scales[n, g])
    return found


@SETTINGS
@given(drawn=_cases(st.sampled_from(kernel.DTYPES)))
def test_it_is_the_product_with_the_unpacked_weights(run: Any, drawn: tuple[str, Case]) -> None:
    """In float64, whatever the leading sizes, N, K, the group and the address."""
    dtype, case = drawn
    want = case.inputs["x"].astype(np.float64) @ _weights(case).T
    got = run("matmul_dequant_int4", dtype, case).outputs["y"].astype(np.float64)
    assert got.shape == want.shape
    assert np.all(np.abs(got - want) <= kernel.TOLERANCE[dtype] * (1 + np.abs(want)))


@settings(SETTINGS, max_examples=15)
@given(drawn=_cases(st.just("float32")), factor=st.sampled_from((-2.0, 0.5, 4.0)))
def test_it_is_linear_in_x(run: Any, drawn: tuple[str, Case], factor: float) -> None:
    """kernel(factor * x + z) = factor * kernel(x) + kernel(z), z being x with its K turned round."""
    dtype, case = drawn
    x = case.inputs["x"]
    z = np.ascontiguousarray(x[..., ::-1])
    first, second, both = (
        run("matmul_dequant_int4", dtype, Case("drawn", {**case.inputs, "x": given}, case.baked))
        for given in (x, z, factor * x + z)
    )
    want = factor * first.outputs["y"] + second.outputs["y"]
    assert np.all(np.abs(both.outputs["y"] - want) <= 2e-5 * (1 + np.abs(want)))
