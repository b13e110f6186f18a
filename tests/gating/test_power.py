"""Noise and what can be seen in it: by hand, by enumeration and by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from accel.gating import power, signs

SEED = 7


def test_the_centre_is_the_median_of_pairwise_means() -> None:
    """Of 1, 2, 10 these are 1, 1.5, 2, 5.5, 6, 10."""
    assert power.hodges_lehmann([10, 1, 2]) == 3.75
    assert power.hodges_lehmann([4.0]) == 4.0


def test_a_wild_epoch_hardly_moves_the_centre() -> None:
    """One of 21 epochs is a thousand standard deviations off."""
    logs = np.random.default_rng(SEED).normal(0, 0.01, 20).tolist()
    assert power.hodges_lehmann([*logs, 10.0]) == pytest.approx(
        power.hodges_lehmann(logs), abs=0.003
    )


def test_there_is_no_centre_of_nothing() -> None:
    """A ValueError that says so."""
    with pytest.raises(ValueError, match="no epochs"):
        power.hodges_lehmann([])


@pytest.mark.parametrize("n", [2, 3, 5, 8, 9, 10, 25])
def test_sigma_is_unbiased_at_the_normal_law(n: int) -> None:
    """The mean of 4,000 estimates, from few epochs too."""
    draws = np.random.default_rng(SEED).normal(3, 0.02, (4000, n))
    assert np.mean([power.robust_sigma(y) for y in draws]) == pytest.approx(0.02, rel=0.03)


def test_sigma_is_robust_and_may_be_missing() -> None:
    """Four of ten epochs far away leave its size; one epoch has none."""
    assert power.robust_sigma([0, 1, 2, 3, 4, 5, 900, 900, 900, 900]) < 10  # type: ignore[operator]
    assert power.robust_sigma([0.1]) is None
    assert power.robust_sigma([0.1] * 5) == 0


@pytest.mark.parametrize("n_max", [12, 40])
def test_what_is_detectable_fails_in_80_percent_of_resampled_runs(n_max: int) -> None:
    """By the bootstrap that it is the limit of; a step of the epochs below it, fewer do."""
    draw = np.random.default_rng(SEED)
    logs = draw.standard_t(3, 40) * 0.01
    found = power.detectable(logs, 0.03, n_max, 0.01)
    assert found is not None

    def share(shift: float) -> float:
        runs = shift + draw.choice(logs - np.median(logs), (2000, n_max))
        return float(np.mean([signs.run(r, 0.03).e_worse >= 100 for r in runs.tolist()]))

    below = found - 1.01 * float(np.diff(np.sort(logs))[:8].max())
    assert share(found + 1e-9) >= 0.77
    assert share(below) < 0.83
    assert share(below) < share(found + 1e-9)


def test_the_level_does_not_hide_in_what_is_detectable() -> None:
    """Epochs are centred: a slow candidate's own slowness is no noise."""
    logs = np.random.default_rng(SEED).normal(0, 0.01, 30)
    one, two = (power.detectable(x, 0.03, 40, 0.01) for x in (logs, logs + 0.2))
    assert one == pytest.approx(two)
    assert one is not None
    assert 0.03 < one < 0.05


def test_nothing_is_detectable_in_too_few_epochs() -> None:
    """Eight can never FAIL at 1 %, and no epochs tell of no noise."""
    assert power.detectable([0.01, -0.01] * 10, 0.03, 8, 0.01) is None
    assert power.detectable([], 0.03, 40, 0.01) is None


def test_a_budget_of_one_sigma_can_be_gated_in_40_epochs() -> None:
    """The design's rule, of which the exact crossing probability gives 0.99."""
    assert math.log1p(power.smallest_budget(0.02, 40)) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("n_max", [12, 24, 40])
def test_identical_arms_pass_at_the_smallest_budget(n_max: int) -> None:
    """98 % of runs with heavy tails, here within three standard errors of 1,000 runs."""
    budget = math.log1p(power.smallest_budget(0.02, n_max))
    scale = 0.02 * 0.674490 / 0.764892
    runs = np.random.default_rng(SEED).standard_t(3, (1000, n_max)) * scale
    passed = np.mean([signs.run(r, budget).e_better >= 20 for r in runs.tolist()])
    assert passed == pytest.approx(0.98, abs=3 * math.sqrt(0.98 * 0.02 / 1000))


def test_the_smallest_budget_grows_with_noise_and_shrinks_with_epochs() -> None:
    """And six epochs carry none."""
    assert power.smallest_budget(0.01, 40) < power.smallest_budget(0.02, 40)
    found = [power.smallest_budget(0.02, n) for n in (6, 8, 12, 24, 40, 60, 200)]
    assert found[0] == math.inf
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("above", [1, 3, 4])
def test_runs_are_counted_in_every_order(above: int) -> None:
    """All arrangements of eight values, above and below: how many have as few, or as many, runs."""
    orders = sorted(set(itertools.permutations([1] * above + [0] * (8 - above))))
    counts = [1 + sum(a != b for a, b in itertools.pairwise(o)) for o in orders]
    for r in range(2, 9):
        assert power._arrangements(above, 8 - above, r) == counts.count(r)


def test_runs_that_are_too_few_or_too_many_are_rare() -> None:
    """Eight below then eight above: 2 of the C(16, 8) orders, two-sided; alternating is as rare."""
    assert power.runs_p([*range(16)]) == pytest.approx(2 * 2 / math.comb(16, 8))
    assert power.runs_p([-1.0, 1.0] * 8) == pytest.approx(2 * 2 / math.comb(16, 8))


def test_the_median_itself_is_on_no_side() -> None:
    """Of five epochs the middle one is left out: two runs of two, 2 of the C(4, 2) orders."""
    assert power.runs_p([1, 2, 3, 4, 5]) == pytest.approx(2 * 2 / math.comb(4, 2))


def test_independent_epochs_have_the_p_value_that_they_claim() -> None:
    """p < .05 in at most 5 % of 2,000 runs, up to three standard errors."""
    draws = np.random.default_rng(SEED).normal(0, 1, (2000, 30)).tolist()
    small = np.mean([(power.runs_p(y) or 1.0) < 0.05 for y in draws])
    assert 0.01 < small < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_equal_epochs_have_no_runs() -> None:
    """Nor has an empty list, or a single epoch."""
    assert power.runs_p([0.3] * 9) is power.runs_p([]) is power.runs_p([1.0]) is None
