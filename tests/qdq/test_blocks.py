"""Weights rounded in blocks: near what they were, smallest in error, packed as the kernels read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel.qdq import blocks

WIDTHS = pytest.mark.parametrize(("bits", "block"), [(4, 32), (4, 128), (8, 32), (8, 128)])


def weight(depth: int, columns: int = 24, seed: int = 3) -> Any:
    """Normal values, a column of none, one that an outlier dwarfs, one of the smallest numbers there are."""
    found = np.random.default_rng(seed).normal(size=(depth, columns)).astype(np.float32)
    found[:, 0] = 0
    found[depth // 3, 1] = 80
    found[:, 2] = np.float32(1e-44) * np.arange(depth)
    return found


@WIDTHS
@pytest.mark.parametrize("depth", [256, 200, 20])
def test_weights_come_back_within_half_a_step(bits: int, block: int, depth: int) -> None:
    """But for those that were clipped, which are off by less than their scale saved the others."""
    w = weight(depth)
    q, scales = blocks.rounded(w, bits, block)
    half = 1 << (bits - 1)
    assert q.shape == w.shape
    assert scales.shape == (-(-depth // block), w.shape[1])
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    step = scales.repeat(block, axis=0)[:depth]
    off = np.abs(w - blocks.back(q, scales, block))
    inside = (q > -half) & (q < half - 1)
    assert (off <= step * (0.5 + 1e-5))[inside].all()
    assert not q[:, 0].any()
    assert (q[w == 0] == 0).all()


@WIDTHS
def test_the_chosen_scale_loses_no_more_than_the_widest(bits: int, block: int) -> None:
    """In no block, and less in all of a normal weight: 0.6 dB at 4 bits."""
    w = weight(256)
    top = np.abs(w.reshape(-1, block, w.shape[1])).max(axis=1)
    plain = np.where(top > 1e-30, top / ((1 << (bits - 1)) - 1), 1).repeat(block, axis=0)
    lost = np.square(w - np.rint(w / plain) * plain)
    found = np.square(w - blocks.back(*blocks.rounded(w, bits, block), block))
    a, b = (x.reshape(-1, block, w.shape[1]).sum(axis=1) for x in (found, lost))
    assert (a <= b * (1 + 1e-5) + 1e-30).all()
    assert a[:, 3:].sum() < (0.87 if bits == 4 else 0.99) * b[:, 3:].sum()


def test_a_wide_weight_is_worked_in_parts_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory does not follow the number of columns, and no column depends on another."""
    w = weight(96)
    whole = blocks.rounded(w, 4, 32)
    monkeypatch.setattr(blocks, "AT_ONCE", 5 * 96)
    parts = blocks.rounded(w, 4, 32)
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_two_numbers_share_a_byte_the_even_one_in_its_low_bits() -> None:
    """A column of 1, -8, 7, 0 is 0x09, 0x8f with its zero point 8; ONNX's int4 has 1, -8 as 0x81."""
    q = np.zeros((32, 1), np.int8)
    q[:4, 0] = 1, -8, 7, 0
    found = blocks.by_column(q, 4, 16)
    assert found.shape == (1, 2, 8)
    assert found[0, 0, :3].tolist() == [0x09, 0x8F, 0x88]
    tensor = numpy_helper.from_array(q.astype(helper.tensor_dtype_to_np_dtype(TensorProto.INT4)))
    assert tensor.data_type == TensorProto.INT4
    assert list(tensor.raw_data[:2]) == [0x81, 0x07]


def test_what_is_missing_of_the_last_block_is_zero() -> None:
    """40 numbers in blocks of 16: three blocks, the last half full of the zero point."""
    q = np.full((40, 2), 5, np.int8)
    four, eight = blocks.by_column(q, 4, 16), blocks.by_column(q, 8, 16)
    assert (four.shape, eight.shape) == ((2, 3, 8), (2, 3, 16))
    assert (four[:, 2, 4:] == 0x88).all()
    assert (eight[:, 2, :8] == 133).all()
    assert (eight[:, 2, 8:] == 128).all()
