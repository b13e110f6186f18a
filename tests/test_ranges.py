"""Contract of every way to choose a range, and what each is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accel import catalog
from accel.ranges import entropy, minmax, mse, percentile
from accel.sketch import Sketch

METHODS = catalog.names("ranges")
DRAW = np.random.default_rng(1)
DATA: dict[str, Any] = {
    "normal": DRAW.normal(size=20000),
    "after a ReLU": np.maximum(DRAW.normal(size=20000), 0),
    "negative alone": -DRAW.random(5000) - 3,
    "one outlier": np.append(DRAW.normal(size=50000), 500.0),
    "heavy tails": DRAW.standard_t(2, size=30000),
    "a short end": np.repeat([-0.01, -0.15, 20.0], [100_000, 1000, 1000]),
    "two values": np.asarray([-1.0, 2.0] * 50),
    "zeros": np.zeros(100),
    "a constant": np.full(64, 3.0),
    "tiny": DRAW.normal(size=4000) * 1e-20,
}


def of(values: Any) -> Sketch:
    made = Sketch()
    made.add(np.asarray(values, np.float32))
    return made


def error(values: Any, low: float, high: float, steps: int) -> float:
    """Mean square of what a quantization to this range loses."""
    values = np.asarray(values, np.float32).astype(np.float64)
    scale = (high - low) / steps
    zero = np.round(low / scale)
    return float(
        np.mean((np.clip(np.round(values / scale), zero, zero + steps) * scale - values) ** 2)
    )


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("method", METHODS)
def test_a_range_holds_zero_and_no_more_than_was_seen(
    method: str, data: str, symmetric: bool
) -> None:
    """0 is in it; it reaches no further than the extremes; a symmetric one has equal ends."""
    made = of(DATA[data])
    low, high = catalog.load("ranges", method).of(made, 254 if symmetric else 255, symmetric)
    assert low <= 0 <= high
    top = max(-made.low, made.high)
    assert -low <= top * (1 + 1e-9)
    assert high <= top * (1 + 1e-9)
    assert (low == -high) or not symmetric
    if not symmetric:
        assert low >= min(made.low, 0) - 1e-9 * top
        assert high <= max(made.high, 0) + 1e-9 * top
    assert (low < high) == bool(np.any(DATA[data]))


@pytest.mark.parametrize("method", METHODS)
def test_what_was_never_seen_has_no_range(method: str) -> None:
    """(0, 0), and no error."""
    assert catalog.load("ranges", method).of(Sketch(), 255, False) == (0.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_scaled_tensor_has_a_scaled_range(method: str) -> None:
    """By a power of two, to the bit."""
    of_ = catalog.load("ranges", method).of
    one, eight = (of_(of(k * DATA["heavy tails"]), 255, False) for k in (1, 8))
    assert np.allclose(np.multiply(one, 8), eight, rtol=1e-6)


def test_minmax_takes_all() -> None:
    """An outlier sets the range."""
    assert minmax.of(of(DATA["one outlier"]), 255, False)[1] == 500.0


def test_percentile_agrees_with_numpy() -> None:
    """To a bin's width."""
    values = np.asarray(DATA["heavy tails"], np.float32)
    made = of(values)
    width = 2.0**made.exponent
    tail = (1 - percentile.SHARE) / 2
    wanted = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    assert np.allclose(percentile.of(made, 255, False), wanted, atol=2 * width)
    top = np.quantile(np.abs(values), percentile.SHARE, method="inverted_cdf")
    assert abs(percentile.of(made, 254, True)[1] - top) <= 2 * width


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    "data", ["normal", "after a ReLU", "one outlier", "heavy tails", "a short end"]
)
def test_mse_loses_least(data: str, symmetric: bool) -> None:
    """No other method's range, and no range of a fine scan, loses notably less in the mean square."""
    made, steps = of(DATA[data]), 254 if symmetric else 255
    best = error(DATA[data], *mse.of(made, steps, symmetric), steps)
    top = max(-made.low, made.high)
    low = -1.0 if symmetric else min(made.low, 0.0) / top
    scan = [error(DATA[data], low * c, c if symmetric else min(c, made.high), steps)
            for c in top * np.geomspace(1 / 1000, 1, 400)]  # fmt: skip
    others = [
        error(DATA[data], *m.of(made, steps, symmetric), steps)
        for m in (minmax, percentile, entropy)
    ]
    assert best <= 1.03 * min(*scan, *others)


def test_entropy_cuts_an_outlier_off_and_keeps_an_even_range() -> None:
    """The two cases that the method was made for."""
    assert entropy.of(of(DATA["one outlier"]), 254, True)[1] < 100
    assert entropy.of(of(DRAW.random(40000)), 255, False)[1] > 0.9
