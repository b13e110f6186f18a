"""What is known of a drop: paired on the same samples, with an interval, against a budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from accel import intervals
from accel.values import Certificate, Score

LEVEL = 0.95
# rows, or clusters, from which a bootstrap's bound can be believed (accel/gating/drops.py tells what was measured)
LEAST = 100


def certificate(
    baseline: Score,
    score: Score,
    metric: Callable[[Any], float],
    budget: float,
    looks: int = 1,
    fidelity: tuple[str, float] | None = None,
) -> Certificate:
    """Grade a score against the baseline's, row by row.

    `looks`: how many candidates were looked at on this very split. On the search split all of them pay
    alike (Bonferroni); on the certify split the one that comes after those that did not hold has less of the
    5 % (`intervals.spending`). `fidelity`: how alike the outputs are, by what and in points. Grades:
    certified (the one-sided 95 % bound is inside the budget), consistent (the drop itself is), violated.
    Where a bound is of fewer than 100 rows that are bootstrapped, or of so many looks that it would take
    more than `intervals.MOST_DRAWS` draws, nothing is certified."""
    import numpy as np

    rows_a, rows_b = np.load(baseline.rows), np.load(score.rows)  # [N] or [N, K]
    clusters = None if score.clusters is None else np.load(score.clusters)
    method, found = intervals.paired(
        metric,
        rows_a,
        rows_b,
        clusters,
        score.higher_is_better,
        level(score.split, looks),
        corrected=True,
    )
    units = len(rows_a) if clusters is None else len(np.unique(clusters))
    few = 0 if method.startswith("Tango") or units >= LEAST else units
    return Certificate(
        grade=_grade(found.drop, math.inf if few else found.upper, budget),
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
        note=_note(score, looks, few, math.isinf(found.upper)),
        needed_samples=LEAST if few else needed(len(rows_a), found.drop, found.upper, budget),
        fidelity=fidelity[0] if fidelity else "",
        agreement=fidelity[1] if fidelity else None,
    )


def level(split: str, looks: int) -> float:
    """Of the bound of one candidate, so that all looks at the split together miss 5 %."""
    spread = intervals.spending if split == "certify" else intervals.bonferroni
    return spread(LEVEL, looks)


def needed(samples: int, drop: float, bound: float, budget: float) -> int | None:
    """How many samples would certify this drop; `samples` where these do, None where none would.

    What a bound lies beyond its drop shrinks with the root of the number of samples."""
    if bound <= budget:
        return samples
    if not math.isfinite(bound) or drop >= budget:
        return None
    return math.ceil(samples * ((bound - drop) / (budget - drop)) ** 2)


def _grade(
    drop: float, bound: float, budget: float
) -> Literal["certified", "consistent", "violated"]:
    if bound <= budget:
        return "certified"
    return "consistent" if drop <= budget else "violated"


def _note(score: Score, looks: int, few: int, endless: bool) -> str:
    notes = (
        [f"{few} rows are too few to bootstrap a bound from: {LEAST} are the least"] if few else []
    )
    if score.fidelity:
        notes.append("no labels: closeness to the fp32 reference stands in for accuracy")
    if looks > 1:
        where = "the certify split" if score.split == "certify" else "the search split alone"
        told = "no bootstrap has a bound for the last" if endless else "bound widened"
        notes.append(f"{looks} candidates were looked at on {where}: {told}")
    return "; ".join(notes)
