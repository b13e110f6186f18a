"""A sketch keeps what a tensor's values were, in memory that does not grow with them."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest

from accel import sketch
from accel.sketch import BINS, Sketch

DRAW = np.random.default_rng(0)
PARTS = {
    "normal": [DRAW.normal(size=1000), DRAW.normal(size=(4, 50)) * 30, DRAW.normal(size=7) - 5],
    "after a ReLU": [np.maximum(DRAW.normal(size=900), 0), np.maximum(DRAW.normal(size=80), 0) * 9],
    "zeros first": [np.zeros(10), DRAW.normal(size=100)],
    "a constant first": [np.full(3, 1.5), 1.5 + 1e-6 * DRAW.normal(size=50), np.full(2, 1.5)],
    "far apart": [np.full(2, 1e-30), np.full(2, -1e30), np.ones(5)],
    "denormals": [np.full(3, 1e-44), np.full(3, 2e-44), np.zeros(2)],
    "negative alone": [-DRAW.random(64), -1000 * DRAW.random(9)],
}  # fmt: skip


def of(parts: Any, axis: int | None = None) -> Sketch:
    made = Sketch(axis=axis)
    for part in parts:
        made.add(np.asarray(part, np.float32))
    return made


@pytest.mark.parametrize("name", PARTS)
def test_order_and_division_do_not_matter(name: str) -> None:
    """However the values come, the bins are those that all of them at once give."""
    parts = [np.asarray(p, np.float32).ravel() for p in PARTS[name]]
    whole = of([np.concatenate(parts)])
    for order in itertools.permutations(parts):
        one = of(order)
        assert (one.exponent, one.first) == (whole.exponent, whole.first)
        assert np.array_equal(one.counts, whole.counts)
        assert (one.low, one.high, one.zeros) == (whole.low, whole.high, whole.zeros)


@pytest.mark.parametrize("name", PARTS)
def test_every_value_lies_in_its_bin(name: str) -> None:
    """Each bin's count is what numpy counts between its edges."""
    values = np.concatenate([np.asarray(p, np.float32).ravel() for p in PARTS[name]])
    made = of(PARTS[name])
    edges = made.edges()
    for i in np.flatnonzero(made.counts)[:50]:
        inside = (values.astype(np.float64) >= edges[i]) & (
            values.astype(np.float64) < edges[i + 1]
        )
        assert made.counts[i] == np.count_nonzero(inside)


def test_memory_does_not_grow_with_values() -> None:
    """After a million values of growing size there are as many bins as after a few."""
    made = Sketch()
    for size in range(1, 65):
        made.add(DRAW.normal(size=16384).astype(np.float32) * size**3)
        assert len(made.counts) <= BINS
    assert made.count == 64 * 16384 == made.counts.sum()


def test_bins_are_narrow_enough() -> None:
    """A bin is at most 1/4096 of the range that was seen."""
    made = of([DRAW.normal(size=5000)])
    assert 2.0**made.exponent <= (made.high - made.low) / (BINS / 2)


def test_nan_and_infinity_are_counted_apart() -> None:
    """They move no range."""
    made = of([[1.0, np.nan, -2.0], [np.inf, -np.inf, 3.0]])
    assert (made.strange, made.count) == (3, 3)
    assert (made.low, made.high) == (-2.0, 3.0)


def test_channels_keep_their_own_extremes_and_sums() -> None:
    """Along the axis that was named, over arrays of differing sizes."""
    a, b = DRAW.normal(size=(2, 3, 4)), DRAW.normal(size=(5, 3, 2))
    made = of([a, b], axis=1)
    both = np.concatenate([x.transpose(1, 0, 2).reshape(3, -1) for x in (a, b)], axis=1)
    assert np.allclose(made.channel_low, both.min(axis=1))
    assert np.allclose(made.channel_high, both.max(axis=1))
    assert made.channel_sum is not None
    assert np.allclose(made.channel_sum / made.channel_count, both.mean(axis=1))


def test_an_axis_of_varying_length_has_no_channels() -> None:
    """Sequences are no channels: what was taken for some is dropped, and nothing else."""
    made = of([np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 3))], axis=-1)
    assert made.channel_sum is None
    assert made.count == 20


@pytest.mark.parametrize("axis", [None, 1, -1])
def test_it_comes_back_from_a_file(axis: int | None) -> None:
    """All that is kept, through an .npz."""
    made, buffer = of([DRAW.normal(size=(8, 3))], axis), io.BytesIO()
    np.savez(buffer, **sketch.arrays(made))
    buffer.seek(0)
    with np.load(buffer) as found:
        back = sketch.load({k: found[k] for k in found.files})
    assert np.array_equal(back.counts, made.counts)
    assert (back.low, back.high, back.count, back.axis) == (made.low, made.high, made.count, axis)
    back.add(np.ones((2, 3), np.float32))
    assert back.count == made.count + 6
