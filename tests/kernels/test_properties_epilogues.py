"""Laws of bias_gelu, masked_mean_pool_l2 and dequant_bias_act_quant, on shapes that nobody chose."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accel import catalog
from accel.cuda.simulator import Simulator
from accel.kernels._device import stored
from accel.protocols import Case

FLOATS = ("float32", "float16", "bfloat16")
STEP = {"float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}  # two roundings of an output near 1
few = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
fewer = settings(few, max_examples=6)  # a sentence is 512 threads
leading = st.lists(st.integers(1, 3), max_size=2).map(tuple)
seeds = st.integers(0, 2**31)


@pytest.fixture(scope="module")
def simulated() -> Iterator[Any]:
    """The kernel in the simulator: its only output."""
    with Simulator() as run:

        def call(kernel: str, dtype: str, inputs: Any, baked: Any = None, offset: int = 0) -> Any:
            return run(kernel, dtype, Case("drawn", inputs, baked, offset)).outputs["y"]

        yield call


def _close(got: Any, want: Any, allowed: float) -> bool:
    got, want = (np.asarray(a).astype(np.float64) for a in (got, want))
    return got.shape == want.shape and bool(
        np.all(np.abs(got - want) <= allowed * (1 + np.abs(want)))
    )


@few
@given(
    rows=leading,
    columns=st.integers(1, 90),
    dtype=st.sampled_from(FLOATS),
    form=st.sampled_from(("none", "tanh")),
    offset=st.integers(0, 2),
    seed=seeds,
)
def test_bias_gelu_is_its_reference(
    rows: Any, columns: int, dtype: str, form: str, offset: int, seed: int, simulated: Any
) -> None:
    """Any rank, any row, either form, wherever the arrays begin."""
    member = catalog.load("kernels", "bias_gelu")
    draw = np.random.default_rng(seed)
    inputs = {
        "x": stored(3 * draw.normal(size=(*rows, columns)), dtype),
        "bias": stored(draw.normal(size=columns), dtype),
    }
    baked = {"approximate": form}
    got = simulated("bias_gelu", dtype, inputs, baked, offset)
    assert _close(got, member.reference(inputs, baked)["y"], member.TOLERANCE[dtype])


@few
@given(columns=st.integers(1, 64), form=st.sampled_from(("none", "tanh")), seed=seeds)
def test_bias_gelu_differs_from_its_mirror_by_the_input(
    columns: int, form: str, seed: int, simulated: Any
) -> None:
    """gelu(v) - gelu(-v) = v, since Phi(v) + Phi(-v) = 1; and it moves with its bias."""
    draw = np.random.default_rng(seed)
    v = draw.integers(-40, 40, (2, columns)).astype(np.float32) / 8  # sums of these are exact
    b = draw.integers(-8, 8, columns).astype(np.float32) / 8
    nothing = np.zeros(columns, np.float32)
    up, down, moved = (
        simulated("bias_gelu", "float32", {"x": x, "bias": bias}, {"approximate": form})
        for x, bias in ((v, nothing), (-v, nothing), (v - b, b))
    )
    assert _close(up - down, v, 1e-6)
    assert np.array_equal(up, moved)


@fewer
@given(
    tokens=st.integers(1, 60),
    columns=st.integers(1, 150),
    dtype=st.sampled_from(FLOATS),
    offset=st.integers(0, 1),
    seed=seeds,
)
def test_masked_mean_pool_l2_is_its_reference(
    tokens: int, columns: int, dtype: str, offset: int, seed: int, simulated: Any
) -> None:
    """Any number of tokens, kept or not, any row, wherever the arrays begin."""
    member = catalog.load("kernels", "masked_mean_pool_l2")
    inputs = _sentence(tokens, columns, dtype, seed)
    got = simulated("masked_mean_pool_l2", dtype, inputs, offset=offset)
    want = member.reference(inputs, member.VARIANTS[0])["y"]
    assert _close(got, want, member.TOLERANCE[dtype])


def _sentence(tokens: int, columns: int, dtype: str, seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "x": stored(draw.normal(size=(1, tokens, columns)), dtype),
        "mask": draw.integers(0, 2, (1, tokens)),
    }


@fewer
@given(tokens=st.integers(17, 60), columns=st.integers(1, 150), dtype=st.sampled_from(FLOATS), seed=seeds)  # fmt: skip
def test_masked_mean_pool_l2_has_length_one_in_any_order(
    tokens: int, columns: int, dtype: str, seed: int, simulated: Any
) -> None:
    """Its L2 norm is 1, and neither the order of tokens nor what masked ones hold matters."""
    inputs = _sentence(tokens, columns, dtype, seed)
    inputs["mask"][0, 0] = 1
    other = np.random.default_rng(seed).permutation(tokens)
    shuffled = {"x": inputs["x"][:, other].copy(), "mask": inputs["mask"][:, other].copy()}
    shuffled["x"][shuffled["mask"] == 0] = 7
    one, two = (simulated("masked_mean_pool_l2", dtype, i) for i in (inputs, shuffled))
    assert _close(np.linalg.norm(one.astype(np.float64)), 1.0, STEP[dtype])
    assert _close(one, two, STEP[dtype])


def _accumulated(shape: Any, behind: int, dtype: str, seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    bounds = np.iinfo(dtype)
    channels = (shape[len(shape) - 1 - behind], *(1,) * behind)
    return {
        "acc": draw.integers(-60_000, 60_000, shape).astype(np.int32),
        "scale": draw.uniform(1e-5, 2e-4, channels).astype(np.float32),
        "bias": draw.normal(size=channels).astype(np.float32),
        "out_scale": np.asarray(draw.uniform(0.01, 0.1), np.float32),
        "out_zero_point": np.asarray(draw.integers(bounds.min, bounds.max, endpoint=True), dtype),
    }


shapes = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)
activations = st.sampled_from(catalog.load("kernels", "dequant_bias_act_quant").VARIANTS)


@few
@given(shape=shapes, behind=st.integers(0, 2), dtype=st.sampled_from(("int8", "uint8")), baked=activations, offset=st.integers(0, 1), seed=seeds)  # fmt: skip
def test_dequant_bias_act_quant_is_its_reference(
    shape: Any, behind: int, dtype: str, baked: Any, offset: int, seed: int, simulated: Any
) -> None:
    """Any rank, channels last or not, any zero point: equal, or one step off where float32 decides a tie."""
    member = catalog.load("kernels", "dequant_bias_act_quant")
    inputs = _accumulated(shape, min(behind, len(shape) - 1), dtype, seed)
    got = simulated("dequant_bias_act_quant", dtype, inputs, baked, offset).astype(np.int64)
    want = member.reference(inputs, baked)["y"].astype(np.int64)
    off = np.abs(got - want)
    assert got.shape == tuple(shape)
    assert off.max() <= 1
    assert off.sum() <= math.prod(shape) / 1000 + 1  # ties are rare


@few
@given(channels=st.integers(1, 12), dtype=st.sampled_from(("int8", "uint8")), relu=st.integers(0, 1), seed=seeds)  # fmt: skip
def test_dequant_bias_act_quant_never_steps_back(
    channels: int, dtype: str, relu: int, seed: int, simulated: Any
) -> None:
    """With scales above zero a larger accumulator never gives a smaller step; ReLU stops at the zero point."""
    inputs = _accumulated((20, channels), 0, dtype, seed)
    inputs["acc"].sort(axis=0)
    y = simulated("dequant_bias_act_quant", dtype, inputs, {"relu": relu, "gelu": 0}).astype(int)
    assert np.all(np.diff(y, axis=0) >= 0)
    if relu:
        assert y.min() >= int(inputs["out_zero_point"])
