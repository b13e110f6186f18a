"""Statistics of an epoch: computed alike on both arms, so that only their sign tells them apart."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from accel.evidence import BASELINE, CANDIDATE
from accel.gating import readings
from accel.gating.readings import Taken
from accel.measure.worker import Block
from accel.values import Request

REQUESTS = [Request("short", 0.5, {}), Request("short", 0.3, {}), Request("long", 0.2, {})]
BASE_NS = (1_000, 2_000, 10_000)  # of each request


def taken(slower: float = 1.0, rounds: int = 4, calls: int = 120, seed: int | None = None) -> Taken:
    """Calls of known length, a factor slower; with a seed, noisy ones."""
    found = Taken(load_s=0.5, cold_s=0.1 * slower, peak_bytes=int(1e6 * slower))
    draw = np.random.default_rng(seed)
    for number in range(rounds):
        for indexes in readings.groups(REQUESTS):
            ns = [BASE_NS[indexes[k % len(indexes)]] * slower for k in range(calls)]
            if seed is not None:
                ns = list(np.asarray(ns) * draw.lognormal(0, 0.2, calls))
            found.add(number, Block(indexes, [round(x) for x in ns], 0.01), 0.25)
    return found


def told(base: Taken, arm: Taken) -> dict[str, float]:
    return readings.told({BASELINE: base, CANDIDATE: arm}, REQUESTS)["logs"][CANDIDATE]


def test_requests_of_a_group_share_a_block() -> None:
    """Groups come in the order in which they are first named."""
    assert readings.groups(REQUESTS) == [(0, 1), (2,)]


def test_a_slowdown_of_known_size_is_its_logarithm_in_every_timed_statistic() -> None:
    """Twice as slow is ln 2 for p50, p99 and throughput, weighted and by group."""
    found = told(taken(), taken(2.0))
    for key in (
        "p50",
        "p50/short",
        "p50/long",
        "p99",
        "p99/short",
        "p99/long",
        "throughput",
        "throughput/long",
    ):
        assert found[key] == pytest.approx(math.log(2)), key
    assert found["peak_memory"] == pytest.approx(math.log(2))
    assert found["cold_start"] == pytest.approx(math.log(0.7 / 0.6))


def test_values_are_weighted_over_requests() -> None:
    """The p50 is the sum of weight x median, in seconds; a group's is that of its own traffic."""
    seen = readings.told({BASELINE: taken()}, REQUESTS)
    values = seen["values"][BASELINE]
    assert values["p50"] == pytest.approx((0.5 * 1000 + 0.3 * 2000 + 0.2 * 10_000) * 1e-9)
    for group, ns in (("long", 10_000), ("short", (0.5 * 1000 + 0.3 * 2000) / 0.8)):
        assert values[f"p50/{group}"] == pytest.approx(ns * 1e-9)
        assert values[f"throughput/{group}"] == pytest.approx(ns * 1e-9)
    assert values["p99/long"] == pytest.approx(values["p50/long"])
    assert seen["rounds_s"][BASELINE] == pytest.approx([values["p50"]] * 4)
    assert seen["calls"][BASELINE] == 4 * 2 * 120


def test_exchanging_the_arms_changes_the_sign_and_nothing_else() -> None:
    """Under "no difference" the sign of every statistic is a fair coin, whatever the noise."""
    a, b = taken(seed=1), taken(1.1, seed=2)
    there, back = told(a, b), told(b, a)
    assert there.keys() == back.keys()
    for key, value in there.items():
        assert value == pytest.approx(-back[key], abs=1e-12), key


def test_one_wild_round_moves_the_p50_little() -> None:
    """The median over rounds holds where a neighbour hit one arm for one round of five."""
    calm, hit = taken(rounds=5), taken(rounds=5)
    hit.ns = [x * 50 if r == 2 else x for x, r in zip(hit.ns, hit.round, strict=True)]
    assert told(calm, hit)["p50"] == pytest.approx(0.0, abs=1e-9)


def test_a_tail_without_enough_calls_is_absent() -> None:
    """p99 needs 300 calls of each group in the epoch; below it there is none, not a wrong one."""
    few = told(taken(calls=60), taken(calls=60))
    assert not any(key.startswith("p99") for key in few)
    assert "p50" in few


def test_every_call_is_saved(tmp_path: Path) -> None:
    """The file holds request, round and nanoseconds of each call; its digest is its own."""
    arm = taken(seed=3)
    digest = readings.save(tmp_path / "e.npz", {BASELINE: arm})
    with np.load(tmp_path / "e.npz") as found:
        assert found[f"{BASELINE}/ns"].tolist() == arm.ns
        assert found[f"{BASELINE}/round"].tolist() == arm.round
        assert found[f"{BASELINE}/request"].tolist() == arm.request
    assert readings.save(tmp_path / "f.npz", {BASELINE: arm}) == digest
    assert readings.save(tmp_path / "g.npz", {BASELINE: taken(seed=4)}) != digest


def test_a_single_group_can_be_named() -> None:
    """p50/one and throughput/one are what the whole is."""
    requests = [dataclasses.replace(r, group="one") for r in REQUESTS]
    arms = {BASELINE: taken(), CANDIDATE: taken(1.1)}
    found = readings.told(arms, requests)["logs"][CANDIDATE]
    assert found["p50/one"] == found["p50"]
    assert found["throughput/one"] == found["throughput"]
