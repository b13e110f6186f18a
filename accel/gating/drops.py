"""A drop of the workload's metric against its budget: three outcomes, from rows paired by sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from accel import intervals
from accel.evidence import Budget, Cell, Outcome
from accel.gating import samples

# Of rows, or clusters, that are bootstrapped: a draw holds none that was not seen. Where 1 row in
# 20 is bad, the upper limit misses the true drop in some 40, 15, 7 and 5 % of sets of 20, 50, 100
# and 200 rows (1 in 100: 40 % of 100, 6 % of 500), the lower one in 4 to 5 %; 5 % is nominal
# (measured: benchmarks/gate/accuracy.py, part 4).
LEAST_TO_PASS, LEAST_TO_FAIL = 100, 20


@dataclass(frozen=True)
class Rows:
    """What both models answered on the same samples: [N] or [N, K] each."""

    baseline: Any
    candidate: Any
    metric: Callable[[Any], float]
    name: str = "metric"
    unit: str = "pt"  # or "fraction"
    higher_is_better: bool = True
    clusters: Any = None  # [N] ids where rows are not independent
    origin: str = ""  # of the samples, for people: "certify split"


def cell(budget: Budget, rows: Rows, alphas: samples.Alphas = samples.BOTH) -> Cell:
    """Upper limit inside the budget PASS, lower limit beyond it FAIL, else cannot tell.

    `ratio`, `low` and `high` are the drop and its limits in the budget's unit: points of a hundred,
    or a share of the baseline's score on these samples, both one-sided at the level of a PASS; the
    lower one forgives one lost answer. A FAIL needs the lower limit of its own level beyond it. `worse` and `better` count answers lost and won where rows are
    right or wrong."""
    base, value = (float(rows.metric(r)) for r in (rows.baseline, rows.candidate))
    scale = _scale(budget, rows, base)
    if not (math.isfinite(base) and math.isfinite(value) and scale > 0):
        return _no_number(budget, rows, base, value)
    method, found = _limits(rows, alphas.passing)
    exact = method.startswith("Tango")
    lost, won = _swaps(rows) if exact else (0, 0)

    def lowest(alpha: float) -> float:
        value = _forgiving(rows, lost, won, alpha) if exact else _limits(rows, alpha)[1].low
        return value / scale

    drop, low, high = found.drop / scale, lowest(alphas.passing), found.high / scale
    outcome = _outcome(low, high, budget.limit, None if exact else _units(rows))
    if outcome == "fail" and lowest(alphas.fail) <= budget.limit:
        outcome, beyond = "cannot tell", samples.unsure(alphas)
    else:
        beyond = ""
    told = [_told(budget, rows, (base, value), (drop, low, high), method)]
    told += [f"{lost} lost, {won} won, McNemar p {mcnemar(lost, won):.2g}"] if exact else []
    told += (
        []
        if outcome != "cannot tell"
        else [beyond or _wanted(budget, rows, (drop, low, high), exact)]
    )
    return Cell(
        budget,
        outcome,
        "; ".join(t for t in told if t),
        label="equivalent" if outcome == "pass" and low >= -budget.limit else "",
        epochs=len(rows.baseline),
        worse=lost,
        better=won,
        ratio=drop,
        low=low,
        high=high,
        value=value,
        baseline=base,
    )


def _limits(rows: Rows, alpha: float) -> tuple[str, intervals.Drop]:
    """Two-sided: each of its limits is one-sided at alpha."""
    return intervals.paired(
        rows.metric,
        rows.baseline,
        rows.candidate,
        rows.clusters,
        rows.higher_is_better,
        1 - 2 * alpha,
        True,
    )


def mcnemar(lost: int, won: int) -> float:
    """Exact two-sided p that answers are lost as often as won: McNemar, Psychometrika 12:153 (1947).

    It tests "different", not "worse than the budget", and decides nothing."""
    from scipy.stats import binomtest

    return 1.0 if lost + won == 0 else float(binomtest(lost, lost + won).pvalue)


def _scale(budget: Budget, rows: Rows, baseline: float) -> float:
    """What one of the budget's units is worth in the metric's own."""
    if budget.unit == "%":
        return abs(baseline)
    return 0.01 if rows.unit == "fraction" else 1.0


def _outcome(low: float, high: float, limit: float, drawn: int | None) -> Outcome:
    """`drawn`: how many rows or clusters a bootstrap had; None: the limits are not of one."""
    if high <= limit and (drawn is None or drawn >= LEAST_TO_PASS):
        return "pass"
    if low > limit and (drawn is None or drawn >= LEAST_TO_FAIL):
        return "fail"
    return "cannot tell"


def _units(rows: Rows) -> int:
    """What is drawn: rows, or whole clusters."""
    import numpy as np

    return len(rows.baseline if rows.clusters is None else np.unique(rows.clusters))


def _swaps(rows: Rows) -> tuple[int, int]:
    """Right answers lost and won."""
    a, b = rows.baseline > 0, rows.candidate > 0
    lost, won = int((a & ~b).sum()), int((b & ~a).sum())
    return (lost, won) if rows.higher_is_better else (won, lost)


def _forgiving(rows: Rows, lost: int, won: int, alpha: float) -> float:
    """The lower limit with one answer fewer lost.

    Tango's own is beyond the true drop in up to 7.3 % of runs where few answers changed, this one in
    4.7 % at most: exact, over 50 to 5,000 samples, budgets of 0.2 to 5 pt, up to 20 % changed."""
    import numpy as np

    whole = abs(float(rows.metric(np.ones_like(rows.baseline))))
    low = intervals.tango_counts(len(rows.baseline), max(0, lost - 1), won, 1 - 2 * alpha).low
    return whole * low


def _told(
    budget: Budget,
    rows: Rows,
    scores: tuple[float, float],
    found: tuple[float, float, float],
    method: str,
) -> str:
    drop, low, high, limit = (_shown(budget, x) for x in (*found, budget.limit))
    unit = "%" if budget.unit == "%" else "pt"
    where = f" of the {rows.origin}" if rows.origin else ""
    return (
        f"{rows.name} {scores[0]:.4g} -> {scores[1]:.4g}: drop {drop} {unit} [{low}, {high}], budget "
        f"{limit} {unit}, on {len(rows.baseline):,} samples{where} ({method})"
    )


def _shown(budget: Budget, x: float) -> str:
    return f"{(100 * x if budget.unit == '%' else x):.3g}"


def _wanted(budget: Budget, rows: Rows, found: tuple[float, float, float], exact: bool) -> str:
    """What it would take to tell."""
    units = _units(rows)
    what = "samples" if rows.clusters is None else "clusters"
    if not exact and units < LEAST_TO_PASS:
        return f"{units} {what} are too few for a bootstrap: {LEAST_TO_PASS} are the least to pass"
    if budget.limit <= 0:
        return "no number of samples proves a drop of 0; only a gain would pass"
    if exact and (rows.baseline == rows.candidate).all():
        enough = samples.unchanged(units, budget.limit / found[2])
        return f"{samples.rounded(enough)} equal answers would do"
    wanted = samples.more(units, *found, budget.limit)
    return (
        ""
        if wanted is None
        else f"about {samples.rounded(max(wanted, units + 1))} {what} would tell"
    )


def _no_number(budget: Budget, rows: Rows, base: float, value: float) -> Cell:
    """A metric that came out as NaN is the candidate's fault where the baseline's did not."""
    broken = math.isfinite(base) and not math.isfinite(value)
    told = f"{rows.name} is {base:g} for the baseline and {value:g} for the candidate"
    return Cell(budget, "broken" if broken else "cannot tell", f"{told}: no drop can be told")
