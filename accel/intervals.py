"""Intervals of a drop in accuracy, paired by sample. Pure functions.

Random draws are seeded, so the same rows always give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

SEED = 20_261  # any fixed number
FIRST_LOOK = 0.8
BEYOND = 20  # draws beyond a limit, at least: of fewer it is one of the extremes
MOST_DRAWS = 100_000  # two calls of the metric each: a level that needs more is told nothing of
RESAMPLES = 2000  # Efron & Tibshirani 1993, section 12.5: 1000 or more for a percentile interval
LEFT_OUT = 1000  # groups of a jackknife at most; each costs two calls of the metric
LEVEL = 0.95


class Drop(NamedTuple):
    """How much worse, positive is worse; a two-sided interval and a one-sided upper bound."""

    drop: float
    low: float
    high: float
    upper: float


def paired(
    metric: Callable[[Any], float],
    rows_a: Any,
    rows_b: Any,
    clusters: Any = None,
    higher_is_better: bool = True,
    level: float = LEVEL,
    corrected: bool = False,
) -> tuple[str, Drop]:
    """The method that fits the rows, by name, and the drop of the metric that it gives.

    Right/wrong rows: Tango's score interval of the paired difference. Anything else: the paired
    bootstrap of the metric itself, by cluster where rows come in groups; `corrected` as there."""
    factor = right_or_wrong(rows_a, metric) if clusters is None else None
    # a factor below 0 would exchange the limits
    if factor is not None and factor > 0 and right_or_wrong(rows_b, metric) is not None:
        pair = (rows_a, rows_b) if higher_is_better else (rows_b, rows_a)
        return "Tango score interval", Drop(*(factor * x for x in tango(*pair, level)))
    kind = "paired bootstrap" if clusters is None else "paired cluster bootstrap"
    found = paired_bootstrap_drop(
        metric, rows_a, rows_b, clusters, higher_is_better, level=level, corrected=corrected
    )
    return kind + (", BCa" if corrected else ""), found


def right_or_wrong(rows: Any, metric: Callable[[Any], float]) -> float | None:
    """The factor k when rows are 0 or 1 and the metric is k times their mean, else None."""
    import numpy as np

    if rows.ndim != 1 or not np.isin(rows, (0, 1)).all():
        return None
    factor = float(metric(np.ones_like(rows)))
    half = np.arange(len(rows)) % 2
    same = np.isclose(metric(half.astype(rows.dtype)), factor * half.mean())
    return factor if same and np.isclose(metric(rows), factor * rows.mean()) else None


def paired_bootstrap_drop(
    metric: Callable[[Any], float],
    rows_a: Any,
    rows_b: Any,
    clusters: Any = None,
    higher_is_better: bool = True,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    corrected: bool = False,
) -> Drop:
    """Drop of a metric from rows a (baseline) to rows b, [N] or [N, K], paired by row.

    Rows, or whole clusters where rows are not independent, are drawn with replacement, the same
    for both (percentile bootstrap: Efron & Tibshirani 1993, chapter 13; clusters: Davison & Hinkley
    1997, section 3.8). Draws on which the metric is not finite are left out. `corrected`: the limits
    of Efron's BCa (Efron & Tibshirani 1993, section 14.3), which are nearer to their level where a
    few rows make most of the drop. A level whose limits need more than MOST_DRAWS draws has none: they
    are infinite."""
    import numpy as np

    a, b = np.asarray(rows_a), np.asarray(rows_b)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"rows must be paired: {len(a)} and {len(b)} were given")
    sign = 1.0 if higher_is_better else -1.0
    draw = np.random.default_rng(SEED)
    ids = np.arange(len(a)) if clusters is None else np.asarray(clusters)
    members = _members(ids)
    draws = max(resamples, BEYOND / (1 - level) if level < 1 else math.inf)
    if draws > MOST_DRAWS:
        return Drop(sign * (metric(a) - metric(b)), -math.inf, math.inf, math.inf)
    drops = np.empty(math.ceil(draws))

    def drop_on(rows: Any) -> float:
        return sign * (metric(a[rows]) - metric(b[rows]))

    for k in range(len(drops)):
        chosen = draw.integers(len(members), size=len(members))
        alone = clusters is None
        drops[k] = drop_on(chosen if alone else np.concatenate([members[i] for i in chosen]))
    drops = drops[np.isfinite(drops)]
    drop = sign * (metric(a) - metric(b))
    if not len(drops):
        return Drop(drop, math.nan, math.nan, math.nan)
    levels = [(1 - level) / 2, (1 + level) / 2, level]
    if corrected:
        levels = _bca(levels, drops, drop, _left_out(drop_on, members))
    low, high, upper = np.quantile(drops, levels)
    return Drop(drop, float(low), float(high), float(upper))


def tango(right_a: Any, right_b: Any, level: float = LEVEL) -> Drop:
    """Drop of the share of right answers from a to b (booleans [N], paired), as fractions.

    Score interval of Tango, Statistics in Medicine 17:891 (1998): it keeps its level where the two
    hardly ever disagree, and never collapses to a point when they never do."""
    import numpy as np

    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if a.shape != b.shape or not a.size:
        raise ValueError(f"rows must be paired: {a.shape} and {b.shape} were given")
    return tango_counts(a.size, int((a & ~b).sum()), int((b & ~a).sum()), level)


def tango_counts(n: int, lost: int, won: int, level: float = LEVEL) -> Drop:
    """The same of n pairs, by how many answers were lost and how many won."""
    from scipy.stats import norm

    two, one = float(norm.ppf((1 + level) / 2)), float(norm.ppf(level))
    return Drop(
        (lost - won) / n,
        _tango_limit(n, lost, won, two),
        _tango_limit(n, lost, won, -two),
        _tango_limit(n, lost, won, -one),
    )


def spending(level: float, look: int) -> float:
    """The level of the `look`-th of intervals that are asked for one after another, each because the one
    before did not hold: what they miss sums to 1 - level however many there are, and the first one, which
    most often is the only one, has four fifths of it (alpha spending: DeMets & Lan, Statistics in Medicine
    13:1341, 1994; the shares are ours)."""
    return 1 - (1 - level) * FIRST_LOOK * (1 - FIRST_LOOK) ** (max(1, look) - 1)


def bonferroni(level: float, looks: int) -> float:
    """The level that each of `looks` intervals needs so that all hold together (Dunn 1961)."""
    return 1 - (1 - level) / max(1, looks)


def _tango_limit(n: int, lost: int, won: int, z: float) -> float:
    """The difference at which the score statistic equals z (it falls as the difference grows)."""
    from scipy.optimize import brentq

    def gap(difference: float) -> float:
        return tango_score(n, lost, won, difference) - z

    edge = 1 - 1e-9
    if gap(-edge) <= 0:
        return -1.0
    return 1.0 if gap(edge) >= 0 else float(brentq(gap, -edge, edge, xtol=1e-10))


def tango_score(n: int, lost: int, won: int, d: float) -> float:
    """Tango's (1998) T at difference d; `p` is the restricted estimate of P(won)."""
    a, b = 2 * n, -lost - won + (2 * n - lost + won) * d
    c = -won * d * (1 - d)
    p = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * p + d * (1 - d))
    excess = lost - won - n * d
    if variance <= 0:
        return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)


def _bca(levels: list[float], drops: Any, drop: float, left_out: Any) -> list[float]:
    """The quantiles of the draws that are BCa's limits at these levels: Efron & Tibshirani 1993,
    equations 14.10, 14.14 and 14.15."""
    import numpy as np
    from scipy.stats import norm

    below = float(np.mean(drops < drop) + np.mean(drops == drop) / 2)
    edge = 1 / (2 * len(drops))
    bias = float(norm.ppf(min(1 - edge, max(edge, below))))
    off = np.mean(left_out) - left_out
    spread = float((off**2).sum()) ** 1.5
    pull = float((off**3).sum()) / (6 * spread) if spread > 0 else 0.0
    shifted = [bias + float(norm.ppf(level)) for level in levels]
    return [float(norm.cdf(bias + z / (1 - pull * z))) for z in shifted]


def _left_out(drop_on: Callable[[Any], float], members: list[Any]) -> Any:
    """The drop without each cluster in turn; of very many, without each of LEFT_OUT groups."""
    import numpy as np

    groups = np.array_split(np.random.default_rng(SEED).permutation(len(members)), LEFT_OUT)
    rows = np.concatenate(members)
    without = (  # one at a time: each is nearly all rows
        np.setdiff1d(rows, np.concatenate([members[i] for i in group]))
        for group in groups
        if len(group)
    )
    found = np.array([drop_on(kept) for kept in without if len(kept)])
    return found[np.isfinite(found)] if np.isfinite(found).any() else np.zeros(1)


def _members(ids: Any) -> list[Any]:
    """Row numbers of each cluster; ids may be texts."""
    import numpy as np

    ids = np.unique(ids, return_inverse=True)[1]
    order = np.argsort(ids, kind="stable")
    cuts = np.flatnonzero(np.diff(ids[order])) + 1
    return list(np.split(order, cuts))
