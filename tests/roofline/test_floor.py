"""Floors: work over rates, and what is said where a rate is missing."""

from __future__ import annotations

import pytest

from accel.roofline import NodeWork, Work, floor

PEAKS = {"float32_ops_per_s": 100.0, "int8_ops_per_s": 400.0, "bytes_per_s": 10.0}
WORK = Work(
    nodes=(
        NodeWork("p", "MatMul", "int8", 4000, read_bytes=20, written_bytes=10),  # 10 s over 3 s
        NodeWork("e", "Exp", "float32", 100, read_bytes=30, written_bytes=30),  # 1 s under 6 s
        NodeWork("l", "Loop", "", 0, 0, 0, unknown="how often its body runs is not in the graph"),
    ),
    operations={"int8": 4000, "float32": 100},
    least_bytes=50,
)


def test_a_node_is_bound_by_what_takes_longer() -> None:
    """4,000 / 400 over 30 / 10; 100 / 100 under 60 / 10; without fusion they add up."""
    found = floor(WORK, PEAKS)
    assert [(n.floor_s, n.bound) for n in found.nodes[:2]] == [(10.0, "compute"), (6.0, "memory")]
    assert found.unfused_s == 16.0


def test_the_least_time_takes_the_whole_graph_at_once() -> None:
    """10 s of int8 over 1 s of float32 and 50 / 10 s of bytes: units work side by side."""
    found = floor(WORK, PEAKS)
    assert (found.least_s, found.bound, found.missing) == (10.0, "compute", ())
    assert floor(WORK, {**PEAKS, "bytes_per_s": 1.0}).bound == "memory"


def test_a_node_of_unknown_cost_has_no_floor() -> None:
    """It is listed, and its time is not 0."""
    found = floor(WORK, PEAKS)
    assert [(n.work.name, n.floor_s) for n in found.unknown] == [("l", None)]


def test_a_rate_that_is_missing_is_said() -> None:
    """Without int8's rate its node is bound by memory, 3 s, and nobody takes float32's instead."""
    found = floor(WORK, {k: v for k, v in PEAKS.items() if k != "int8_ops_per_s"})
    assert found.missing == ("int8_ops_per_s",)
    assert (found.nodes[0].floor_s, found.nodes[0].bound) == (3.0, "memory")
    assert found.least_s == 5.0


def test_no_rates_no_floor() -> None:
    """A target that tells nothing: no number, and every rate that is missing."""
    found = floor(WORK, {})
    assert (found.least_s, found.unfused_s, found.bound) == (None, None, "")
    assert set(found.missing) == {"int8_ops_per_s", "float32_ops_per_s", "bytes_per_s"}


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_arithmetic_on_sizes_needs_no_rate(dtype: str) -> None:
    """Index arithmetic is a few numbers: memory bounds it, and no profile is blamed."""
    work = Work((NodeWork("i", "Add", dtype, 5, 10, 10),), {dtype: 5}, 10)
    assert floor(work, PEAKS).missing == ()
