"""One timed budget against the epochs: counts, e-values, interval, noise; and its outcome.

Pure functions. A cell is first measured alone, then ruled on with its share of the family's error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from accel.evidence import BASELINE, CANDIDATE, Budget, Cell, Epoch, Outcome, Rules
from accel.gating import signs, wording
from accel.gating.power import detectable, hodges_lehmann, robust_sigma, smallest_budget

LEVEL = 0.95
LEAST = 8  # epochs from which a two-sided 95 % interval has both ends: signs.needed(8, 0.025)


def measured(budget: Budget, epochs: Sequence[Epoch], rules: Rules, alpha_detect: float) -> Cell:
    """What the epochs say of one budget, not ruled on yet.

    `alpha_detect`: the level at which this cell can count on a FAIL, for `detectable`."""
    logs = _logs(budget, epochs)
    limit = math.log1p(budget.limit)
    # absent where an arm was slow (a p99 of too few calls): not at random, so it counts as a tie
    seen = signs.run(_logs(budget, epochs, absent=True) if logs else logs, limit)
    low, high = signs.interval(logs, 1 - LEVEL)
    found = detectable(logs, limit, rules.max_epochs, alpha_detect) if seen.n >= LEAST else None
    return Cell(
        budget=budget,
        outcome="cannot tell",
        epochs=seen.n,
        worse=seen.worse,
        better=seen.better,
        e_fail=seen.e_worse,
        e_pass=seen.e_better,
        p_fail=min(1.0, 1 / seen.e_worse),
        ratio=math.exp(hodges_lehmann(logs)) if logs else None,
        low=math.exp(low) if math.isfinite(low) else None,
        high=math.exp(high) if math.isfinite(high) else None,
        sigma=robust_sigma(logs),
        detectable=None if found is None else math.expm1(found),
        value=_middle(budget, epochs, CANDIDATE),
        baseline=_middle(budget, epochs, budget.arm),
    )


def ruled(cell: Cell, epochs: Sequence[Epoch], rules: Rules, p_fail: float) -> Cell:
    """The cell with its outcome: a FAIL at p_fail <= alpha_fail stands above a PASS.

    Undecided, it is unfit where the noise is too large for the budget, else "cannot tell"."""
    cell = replace(cell, p_fail=p_fail, outcome=_outcome(cell, rules, p_fail))
    if not cell.epochs:
        return replace(cell, reason=wording.missing(cell.budget, tuple(epochs), CANDIDATE))
    if cell.outcome == "unfit":
        n_max, smallest = _capability(cell, rules)
        return replace(cell, reason=wording.incapable(cell, n_max, smallest))
    label = _label(cell) if cell.outcome == "pass" else ""
    return replace(cell, label=label, reason=wording.verdict(cell))


def _outcome(cell: Cell, rules: Rules, p_fail: float) -> Outcome:
    if p_fail <= rules.alpha_fail * (1 + signs.ROUNDING):
        return "fail"
    if cell.e_pass * rules.alpha_pass >= 1 - signs.ROUNDING:
        return "pass"
    if cell.epochs >= LEAST and abs(cell.budget.limit) < _capability(cell, rules)[1]:
        return "unfit"
    return "cannot tell"


def _capability(cell: Cell, rules: Rules) -> tuple[int, float]:
    """Epochs that a gate may well take, and the smallest budget with them.

    Of a run, or those had where re-runs made them more; and never fewer than a run usually may:
    who asks for less is short of epochs, not of a quiet machine."""
    n_max = max(rules.max_epochs, Rules().max_epochs, cell.epochs)
    return n_max, smallest_budget(cell.sigma or 0.0, n_max, rules.alpha_pass)


def _label(cell: Cell) -> str:
    """What a PASS is beyond that, where the interval shows it."""
    low, high = cell.low or 0.0, cell.high or math.inf
    if high < 1:
        return "faster"
    if low > 1:
        return "slower within budget"
    limit = 1 + abs(cell.budget.limit)
    return "equivalent" if low >= 1 / limit and high <= limit else ""


def _key(budget: Budget) -> str:
    return f"{budget.metric}/{budget.group}" if budget.group else budget.metric


def _logs(budget: Budget, epochs: Sequence[Epoch], absent: bool = False) -> list[float]:
    """ln ratios to the arm that the budget is against, of the epochs that have them; `absent`: NaN
    for those that have none."""
    key, found = _key(budget), []
    for e in epochs:
        log = e.logs.get(CANDIDATE, {}).get(key, math.nan)
        if budget.arm != BASELINE:
            log -= e.logs.get(budget.arm, {}).get(key, math.nan)
        if absent or math.isfinite(log):
            found.append(log)
    return found


def _middle(budget: Budget, epochs: Sequence[Epoch], arm: str) -> float | None:
    """The median over epochs of an arm's own value (s, bytes)."""
    key = _key(budget)
    found = [e.values[arm][key] for e in epochs if key in e.values.get(arm, {})]
    return median(found) if found else None
