"""Is the instrument fit? Made-up epochs of a machine that is, and of machines that are not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accel.evidence import BASELINE, CANDIDATE, SHADOW, Budget, Epoch, Rules
from accel.gating import fitness
from accel.gating.fitness import judged
from accel.gating.power import runs_p

P50 = (Budget("p50", 0.04),)
RULES = Rules()
FORTH, BACK = (BASELINE, CANDIDATE, SHADOW), (CANDIDATE, SHADOW, BASELINE)


def epochs(candidate: list[float], shadow: list[float | None]) -> list[Epoch]:
    """An epoch a pair of ln ratios; None: the shadow did not run."""
    found = []
    for k, (c, s) in enumerate(zip(candidate, shadow, strict=True)):
        logs = {CANDIDATE: {"p50": c}} | ({} if s is None else {SHADOW: {"p50": s}})
        found.append(Epoch(k, logs, order=(FORTH, BACK)[k % 2]))
    return found


def noise(n: int, seed: int = 1, sigma: float = 0.005) -> list[float]:
    """n seeded normal ln ratios around 0."""
    found: list[float] = np.random.default_rng(seed).normal(0, sigma, n).tolist()
    return found


def test_a_quiet_machine_is_fit() -> None:
    """With figures for what was seen, and no complaint."""
    found = judged(epochs(noise(30), list(noise(30, 2))), P50, RULES)
    assert found.fit
    assert found.reasons == ()
    assert found.shadow_epochs == 30
    assert found.shadow_ratio == pytest.approx(1, abs=0.005)
    assert found.e_shadow == 1.0
    assert found.runs_p is not None


@pytest.mark.parametrize("shift", [0.02, -0.02])
def test_a_baseline_that_differs_from_itself_is_no_instrument(shift: float) -> None:
    """By 2 % either way, where a quarter of the 4 % budget is allowed."""
    shadow = [x + shift for x in noise(20, 2)]
    found = judged(epochs(noise(20), list(shadow)), P50, RULES)
    assert not found.fit
    assert found.e_shadow >= 1000
    assert f"differs from itself by {100 * math.expm1(shift):+.1f} %" in found.reasons[0]
    assert "0.99 % is allowed" in found.reasons[0]


def test_a_difference_within_a_quarter_of_the_budget_is_allowed() -> None:
    """0.7 % under a 4 % budget; under a 2 % one it is not."""
    seen = epochs(noise(30, 1, 0.001), [x + 0.007 for x in noise(30, 2, 0.001)])
    assert judged(seen, P50, RULES).fit
    assert not judged(seen, (*P50, Budget("p50", 0.02, group="batch")), RULES).fit
    watched = Budget("p50", 0.02, mode="watch")
    assert judged(seen, (*P50, watched), RULES).fit


def test_once_unfit_it_stays_so() -> None:
    """Twenty bad epochs, then forty good ones."""
    shadow = [0.03 + x for x in noise(20, 2)] + noise(40, 3)
    assert not judged(epochs(noise(60), list(shadow)), P50, RULES).fit


def test_few_shadow_epochs_leave_it_fit_and_say_that_they_are_few() -> None:
    """Thirteen cannot refute at 0.001, whatever they show; the fourteenth can."""
    shadow: list[float | None] = [0.5 + x for x in noise(14, 2)]
    found = judged(epochs(noise(13), shadow[:13]), P50, RULES)
    assert found.fit
    assert "13 epochs have it twice, 14 at least are needed" in found.reasons[0]
    assert not judged(epochs(noise(14), shadow), P50, RULES).fit


def test_without_a_shadow_nothing_is_claimed_of_it() -> None:
    """Every n-th epoch may have one; here none has."""
    found = judged(epochs(noise(20), [None] * 20), P50, RULES)
    assert (found.shadow_ratio, found.shadow_epochs) == (None, 0)
    assert "0 epochs have it twice" in found.reasons[0]
    third = judged(epochs(noise(9), [0.0, None, None] * 3), P50, RULES)
    assert third.shadow_epochs == 3


@pytest.mark.parametrize("who", ["candidate", "shadow"])
def test_epochs_that_depend_on_those_before_make_it_unfit(who: str) -> None:
    """A machine that became slower for one arm half way: the runs test sees two runs."""
    drift = [x - 0.004 for x in noise(12, 3, 0.001)] + [x + 0.004 for x in noise(12, 4, 0.001)]
    arms = (drift, noise(24)) if who == "candidate" else (noise(24), drift)
    found = judged(epochs(arms[0], list(arms[1])), P50, RULES)
    assert not found.fit
    assert found.runs_p is not None
    assert found.runs_p == pytest.approx(2 * (runs_p(drift) or 1))
    assert found.runs_p < fitness.ALPHA_RUNS
    assert "runs test" in found.reasons[0]


def test_being_started_second_is_told_and_decides_nothing() -> None:
    """Every second epoch starts the candidate first; whoever is second is 1 % slower."""
    found = judged(epochs([0.01, -0.01] * 3, [0.0] * 6), P50, RULES)
    assert found.position == pytest.approx(0.01)
    assert found.fit
    assert judged(epochs([0.01], [0.0]), P50, RULES).position is None


def test_no_epochs_are_no_complaint() -> None:
    """Before the first one there is nothing to tell."""
    found = judged([], P50, RULES)
    assert found.fit
    assert (found.e_shadow, found.runs_p, found.position) == (1.0, None, None)
