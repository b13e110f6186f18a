"""Intervals of order statistics and MLPerf's estimate: by hand, by published logs, by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from accel import quantiles


def test_an_interval_by_hand() -> None:
    """Of 1..100, the median lies between the 40th and the 61st with 96.5 %."""
    found = quantiles.carried(np.arange(1, 101), 0.5)
    assert found is not None
    assert (found.value_s, found.low_s, found.high_s) == (50.5, 40, 61)
    assert found.coverage == pytest.approx(sum(math.comb(100, i) for i in range(40, 61)) / 2**100)


@pytest.mark.parametrize("n", [20, 57, 100, 1000, 20_001])
@pytest.mark.parametrize("q", list(quantiles.NAMED.values()))
def test_the_ranks_cover_at_least_the_level_and_no_narrower_ones_do(n: int, q: float) -> None:
    """Each tail is within 2.5 %; one rank further in and it is not."""
    if n * (1 - q) < 10 - 1e-9:
        assert quantiles.carried(np.ones(n), q) is None
        return
    j, k = quantiles.ranks(n, q, 0.025)
    assert 1 <= j < k <= n
    assert binom.cdf(j - 1, n, q) <= 0.025 < binom.cdf(j, n, q)
    assert binom.sf(k - 1, n, q) <= 0.025 < binom.sf(k - 2, n, q)


@pytest.mark.parametrize(
    ("draw", "quantile"),
    [
        (lambda g, size: g.exponential(size=size), lambda q: -math.log(1 - q)),
        (lambda g, size: g.pareto(1.5, size=size), lambda q: (1 - q) ** (-1 / 1.5) - 1),
    ],
    ids=["exponential", "heavy-tailed"],
)
@pytest.mark.parametrize(("q", "n"), [(0.5, 20), (0.5, 101), (0.9, 100), (0.99, 1200)])
def test_the_interval_covers_as_often_as_it_says(
    draw: Callable[[Any, Any], Any], quantile: Callable[[float], float], q: float, n: int
) -> None:
    """In 4,000 samples of independent draws, whatever the distribution, within 3 standard errors."""
    samples, true = np.sort(draw(np.random.default_rng(1), (4000, n))), quantile(q)
    one, (j, k) = quantiles.carried(samples[0], q), quantiles.ranks(n, q, 0.025)
    assert one is not None
    assert (one.low_s, one.high_s) == (samples[0, j - 1], samples[0, k - 1])
    share = ((samples[:, j - 1] <= true) & (true <= samples[:, k - 1])).mean()
    assert one.coverage >= 0.95
    assert abs(share - one.coverage) < 3 * math.sqrt(one.coverage * (1 - one.coverage) / 4000)


def test_names_that_the_sample_does_not_carry_are_none() -> None:
    """1,000 calls carry p99 and no p99.9; 19 carry nothing."""
    found = quantiles.named(np.linspace(1, 2, 1000))
    assert {name: x is not None for name, x in found.items()} == {
        "p50": True, "p90": True, "p99": True, "p99.9": False,
    }  # fmt: skip
    assert set(quantiles.named(np.ones(19)).values()) == {None}


def test_a_quantile_that_reaches_what_never_ended_is_not_carried() -> None:
    """An infinite latency is never interpolated to a number."""
    samples = np.concatenate([np.ones(900), np.full(100, np.inf)])
    found = quantiles.named(samples)
    assert found["p50"] is not None
    assert (found["p90"], found["p99"]) == (None, None)


@pytest.mark.parametrize(
    ("n", "q", "discarded"),
    [
        # "Would discard ... highest latency queries" of LoadGen's own summaries
        (1493, 0.9, 121),  # SingleStream, mlcommons-loadgen 6.0.17, run here
        (201, 0.9, 9),
        (708, 0.9, 51),
        (79944, 0.9, 7796),
        (100, 0.9, 2),
        (64, 0.9, 0),
        (662, 0.99, 0),
    ],
)
def test_early_stopping_drops_as_many_as_loadgen(n: int, q: float, discarded: int) -> None:
    """The estimate is the next one below those that LoadGen says it would discard."""
    assert quantiles.early_stopping(np.arange(n), q) == n - 1 - discarded


@pytest.mark.parametrize(("n", "q"), [(63, 0.9), (661, 0.99), (0, 0.9)])
def test_too_few_for_early_stopping(n: int, q: float) -> None:
    """One query below LoadGen's least, and there is no estimate."""
    assert quantiles.early_stopping(np.arange(n), q) is None


def test_the_servers_rule_asks_what_loadgen_asks() -> None:
    """288 queries, none over: LoadGen 6.0.17 wanted 171 more, all of them under the bound."""
    assert not quantiles.bound_met(0, 288, 0.99)
    assert not quantiles.bound_met(0, 288 + 170, 0.99)
    assert quantiles.bound_met(0, 288 + 171, 0.99)
    assert not quantiles.bound_met(1, 288 + 171, 0.99)
    assert not quantiles.bound_met(0, 0, 0.99)
