"""What is known of a drop: paired on the same samples, with an interval, against a budget.

Right/wrong rows: Tango's score interval of the paired difference. Anything else: the paired
bootstrap of the metric itself, by cluster where rows come in groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from accel import intervals
from accel.values import Certificate, Score

LEVEL = 0.95


def certificate(
    baseline: Score,
    score: Score,
    metric: Callable[[Any], float],
    budget: float,
    looks: int = 1,
) -> Certificate:
    """Grade a score against the baseline's, row by row.

    `looks`: how many candidates were looked at on this very split; above 1 the bound is widened
    (Bonferroni). Grades: certified (the one-sided 95 % bound is inside the budget), consistent
    (the drop itself is), violated."""
    import numpy as np

    rows_a, rows_b = np.load(baseline.rows), np.load(score.rows)  # [N] or [N, K]
    clusters = None if score.clusters is None else np.load(score.clusters)
    level = intervals.bonferroni(LEVEL, looks)
    method, found = _interval(rows_a, rows_b, clusters, metric, score, level)
    return Certificate(
        grade=_grade(found.drop, found.upper, budget),
        metric=score.metric,
        unit=score.unit,
        baseline=baseline.value,
        value=score.value,
        drop=found.drop,
        bound=found.upper,
        interval=(found.low, found.high),
        budget=budget,
        samples=len(rows_a),
        method=method,
        split=score.split,
        note=_note(score, looks),
    )


def right_or_wrong(rows: Any, metric: Callable[[Any], float]) -> float | None:
    """The factor k when rows are 0 or 1 and the metric is k times their mean, else None."""
    import numpy as np

    if rows.ndim != 1 or not np.isin(rows, (0, 1)).all():
        return None
    factor = float(metric(np.ones_like(rows)))
    half = np.arange(len(rows)) % 2
    same = np.isclose(metric(half.astype(rows.dtype)), factor * half.mean())
    return factor if same and np.isclose(metric(rows), factor * rows.mean()) else None


def _interval(
    rows_a: Any,
    rows_b: Any,
    clusters: Any,
    metric: Callable[[Any], float],
    score: Score,
    level: float,
) -> tuple[str, intervals.Drop]:
    factor = right_or_wrong(rows_a, metric) if clusters is None else None
    if factor is not None and right_or_wrong(rows_b, metric) is not None:
        pair = (rows_a, rows_b) if score.higher_is_better else (rows_b, rows_a)
        found = intervals.tango(*pair, level)
        return "Tango score interval", intervals.Drop(*(factor * x for x in found))
    kind = "paired bootstrap" if clusters is None else "paired cluster bootstrap"
    return kind, intervals.paired_bootstrap_drop(
        metric, rows_a, rows_b, clusters, score.higher_is_better, level=level
    )


def _grade(
    drop: float, bound: float, budget: float
) -> Literal["certified", "consistent", "violated"]:
    if bound <= budget:
        return "certified"
    return "consistent" if drop <= budget else "violated"


def _note(score: Score, looks: int) -> str:
    notes = []
    if score.fidelity:
        notes.append("no labels: closeness to the fp32 reference stands in for accuracy")
    if looks > 1:
        notes.append(f"no certify split: bound widened for {looks} candidates (Bonferroni)")
    return "; ".join(notes)
