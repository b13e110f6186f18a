"""Quantiles, and what a sample says of them: intervals of order statistics, MLPerf's estimate.

Pure and distribution-free. They take calls as independent: those of one process are alike, and
those of one queue wait for each other, so that from process to process a quantile spreads wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from accel import stats
from accel.intervals import LEVEL

NAMED = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
CONFIDENCE = 0.99  # of LoadGen's early stopping, with no tolerance: mlcommons/inference,
# loadgen/results.cc, PerformanceSummary::EarlyStopping, read 2026-11


@dataclass(frozen=True)
class Quantile:
    """A quantile that the sample carries, seconds; the interval covers it with `coverage`."""

    value_s: float
    low_s: float
    high_s: float
    coverage: float  # of independent calls: at least the level asked


def carried(samples_s: Any, q: float, level: float = LEVEL) -> Quantile | None:
    """The q-quantile of samples [N] and its interval; None where fewer than 10 lie beyond it.

    The interval is between two order statistics, equal tails: the j-th and k-th smallest, where
    Binomial(N, q) lies in [j, k-1] with `coverage` (Le Boudec, Performance Evaluation, 2010, 2.2.2).
    A query that never ended is infinite; a quantile that it reaches is not carried."""
    import numpy as np
    from scipy.stats import binom

    values = np.sort(np.asarray(samples_s, np.float64))
    with np.errstate(invalid="ignore"):  # infinity less infinity, between two that never ended
        value = stats.quantile_if_carried(values, q)
    if value is None or not math.isfinite(value):
        return None
    n, tail = len(values), (1 - level) / 2
    j, k = ranks(n, q, tail)
    coverage = float(binom.cdf(k - 1, n, q) - binom.cdf(j - 1, n, q))
    return Quantile(value, float(values[j - 1]), float(values[k - 1]), coverage)


def ranks(n: int, q: float, tail: float) -> tuple[int, int]:
    """The ranks j < k, from 1, of the order statistics that miss the quantile with at most `tail`
    on either side; n(1-q) and nq must be 10 or more."""
    from scipy.stats import binom

    j, k = int(binom.ppf(tail, n, q)), int(binom.ppf(1 - tail, n, q)) + 1
    return max(1, j), min(n, k)


def named(samples_s: Any) -> dict[str, Quantile | None]:
    """p50, p90, p99 and p99.9 of samples [N], seconds; None where the sample does not carry one."""
    return {name: carried(samples_s, q) for name, q in NAMED.items()}


def early_stopping(samples_s: Any, q: float) -> float | None:
    """MLPerf's early stopping estimate of the q-quantile (s), an upper bound at 99 %; None where
    too few samples [N] are there: 64 are the least for p90, 662 for p99.

    The t-th largest sample, for the largest t of at least 1 that so many draws of a share 1-q
    fall short of or hit with a probability below 1 %. (LoadGen words it as discarding the t-1
    highest: loadgen/results.cc and loadgen/early_stopping.cc of mlcommons/inference.)"""
    import numpy as np
    from scipy.stats import binom

    values = np.sort(np.asarray(samples_s, np.float64))
    t = int(binom.ppf(1 - CONFIDENCE, len(values), 1 - q)) - 1 if len(values) else 0
    return float(values[-t]) if t >= 1 else None


def bound_met(over: int, n: int, q: float) -> bool:
    """Whether `over` of n queries above a bound let LoadGen's Server rule say, at 99 %, that the
    q-quantile is inside it (the same sources)."""
    from scipy.stats import binom

    return n > 0 and bool(binom.cdf(over, n, 1 - q) < 1 - CONFIDENCE)
