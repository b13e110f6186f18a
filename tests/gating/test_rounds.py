"""Rounds follow the noise that was seen and the budget, and nothing of the epoch to come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel
from accel import testing
from accel.evidence import BASELINE, CANDIDATE, Budget, Epoch, Rules
from accel.gating import sampler
from accel.gating.readings import P99_CALLS
from accel.gating.rounds import LEARNT, MOST, planned, tails
from accel.values import Request

RULES = Rules()
TIGHT = (Budget("p50", 0.03), Budget("peak_memory", 0.05))


def epochs(count: int, within: float, between: float = 0.0, seed: int = 0) -> Sequence[Epoch]:
    """Of ten rounds, with these standard deviations of ln ratios."""
    draw = np.random.default_rng(seed)
    made = []
    for i in range(count):
        ratio = np.exp(draw.normal(0, between) + draw.normal(0, within, RULES.rounds))
        base = np.full(RULES.rounds, 0.01)
        rounds = {BASELINE: tuple(base.tolist()), CANDIDATE: tuple((base * ratio).tolist())}
        made.append(
            Epoch(i, {CANDIDATE: {"p50": float(np.log(np.median(ratio)))}}, rounds_s=rounds)
        )
    return made


def test_a_quiet_machine_keeps_the_rules() -> None:
    """Nothing is gained by more."""
    assert planned(epochs(20, 0.02), TIGHT, RULES) == RULES.rounds


def test_noise_within_epochs_is_answered_by_rounds() -> None:
    """As many as bring an epoch's standard deviation to two thirds of the budget."""
    found = planned(epochs(200, 0.07), TIGHT, RULES)
    wanted = math.pi / 2 * 0.07**2 / (math.log(1.03) / 1.5) ** 2
    assert found == pytest.approx(wanted, rel=0.2)


def test_there_is_a_most() -> None:
    """On a machine that no number of rounds makes fit, and for noise between epochs."""
    assert planned(epochs(50, 0.5), TIGHT, RULES) == MOST * RULES.rounds
    assert planned(epochs(50, 0.03, between=0.1), TIGHT, RULES) == MOST * RULES.rounds


def test_the_tightest_budget_that_gates_decides() -> None:
    """A wide one, one of memory and one that is only watched do not."""
    seen = epochs(200, 0.07)
    wide = (Budget("p50", 0.10), Budget("p50", 0.01, mode="watch"), Budget("peak_memory", 0.001))
    assert planned(seen, wide, RULES) == RULES.rounds
    assert planned(seen, (*wide, Budget("p50", 0.03, group="short")), RULES) > RULES.rounds
    assert planned(seen, (Budget("peak_memory", 0.05),), RULES) == RULES.rounds


def test_it_learns_first() -> None:
    """Of a few epochs nothing is said."""
    assert planned(epochs(LEARNT - 1, 0.5), TIGHT, RULES) == RULES.rounds


def test_exchanged_arms_are_planned_alike() -> None:
    """Which of both is the candidate does not matter: that keeps the next sign fair."""
    seen = epochs(30, 0.06)
    swapped = [
        Epoch(e.number, {CANDIDATE: {"p50": -e.logs[CANDIDATE]["p50"]}},
              rounds_s={BASELINE: e.rounds_s[CANDIDATE], CANDIDATE: e.rounds_s[BASELINE]})
        for e in seen
    ]  # fmt: skip
    assert planned(seen, TIGHT, RULES) == planned(swapped, TIGHT, RULES)


def paces(*seconds: float, candidate: float = 1.0, group: str = "short") -> list[Epoch]:
    """Epochs in which a call of this group took the baseline so long."""
    return [
        Epoch(i, {}, {BASELINE: {f"throughput/{group}": s, "throughput": 9.0},
                      CANDIDATE: {f"throughput/{group}": s * candidate}})
        for i, s in enumerate(seconds)
    ]  # fmt: skip


def test_a_p99_that_gates_is_seen_to_whatever_the_candidate_takes() -> None:
    """A slow candidate does not take its own gate away: what the baseline took decides."""
    asked = (Budget("p50", 0.03), Budget("p99", 0.10))
    for factor in (0.5, 1.1, 50.0):
        assert tails(paces(0.00095, candidate=factor), asked, RULES) == {"short"}
    assert tails(paces(0.00095), (Budget("p99", 0.10, group="short"),), RULES) == {"short"}


def test_a_p99_that_does_not_gate_costs_nothing() -> None:
    """One that is watched, of another group, or of no epoch yet."""
    seen = paces(0.00095)
    assert not tails(seen, (Budget("p99", 0.10, mode="watch"), Budget("p50", 0.03)), RULES)
    assert not tails(seen, (Budget("p99", 0.10, group="long"),), RULES)
    assert not tails((), (Budget("p99", 0.10),), RULES)


def test_a_p99_that_would_make_epochs_endless_is_left() -> None:
    """300 calls of 100 ms are 30 s an arm; a longer timed_s, or blocks half as long, allow them."""
    asked, slow = (Budget("p99", 0.10),), paces(0.1)
    assert not tails(slow, asked, RULES)
    assert tails(slow, asked, replace(RULES, timed_s=30.5))
    assert tails(slow, asked, replace(RULES, block_s=1.55))
    assert tails(paces(0.001, 0.1, 0.001), asked, RULES)  # one slow epoch is no slow model
    both = [
        replace(e, values={BASELINE: {"throughput/short": 0.001, "throughput/long": 0.1}})
        for e in slow
    ]
    assert not tails(both, asked, RULES)  # without the long ones there is no p99 over all
    assert tails(both, (*asked, Budget("p99", 0.10, group="short")), RULES) == {"short"}


def test_blocks_have_the_calls_of_a_p99_where_it_is_seen_to() -> None:
    """All rounds of a block together, and of that group alone."""
    asked = [Request("short", 0.5, {}), Request("long", 0.2, {}), Request("short", 0.3, {})]
    (short, none), (long, least) = sampler._blocks(asked, 7, {"long"})
    assert (short, none, long) == ((0, 2), 1, (1,))
    assert P99_CALLS <= 7 * least < P99_CALLS + 7


def test_a_gate_sees_to_its_p99_from_what_its_own_epochs_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A fake sampler: nothing is known in the first epoch, later ones are asked for the group."""
    asked: list[Any] = []

    def epoch(number: int, arms: Any, requests: Any, *_: Any, tails: Any) -> Epoch:
        asked.append(tails)
        logs = {arm: {"p99": 0.001} if number else {} for arm in arms if arm != BASELINE}
        return Epoch(number, logs, {BASELINE: {f"throughput/{requests[0].group}": 0.00095}})

    monkeypatch.setattr(sampler, "epoch", epoch)
    model = testing.mlp(tmp_path / "m.onnx")
    words: dict[str, Any] = {"work": tmp_path / "work", "rules": {"max_epochs": 3}}
    found = accel.gate(model.path, model.path, budgets=(Budget("p99", 0.10),), **words)
    assert [len(groups) for groups in asked] == [0, 1, 1]
    assert found.judgement.cells[0].better == 2
