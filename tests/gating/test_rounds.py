"""Rounds follow the noise that was seen and the budget, and nothing of the epoch to come."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from accel.evidence import BASELINE, CANDIDATE, Budget, Epoch, Rules
from accel.gating.rounds import LEARNT, MOST, planned

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
