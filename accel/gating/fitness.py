"""Is the instrument fit? The baseline beside itself, and the order of the epochs. Pure functions.

An unfit instrument is no regression: it has an outcome, and an exit code, of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from accel.evidence import BASELINE, CANDIDATE, SHADOW, Budget, Epoch, Fitness, Rules
from accel.gating.power import hodges_lehmann, runs_p
from accel.gating.signs import e_value

SHARE = 0.25  # of the tightest p50 budget: by how much a baseline may differ from itself
USUAL = 0.03  # a budget, where no p50 has one
ALPHA_RUNS = 0.001  # of the runs test, which looks at order alone


def judged(epochs: Sequence[Epoch], budgets: Sequence[Budget], rules: Rules) -> Fitness:
    """What the epochs so far say of the machine that they were taken on.

    The shadow arm is tested both ways by the mean of two e-values, itself one, at
    rules.alpha_unfit. Too few shadow epochs to refute anything leave it fit, and say so. The runs
    test is one for a single look: looked at after each of 40 epochs, it condemns a quiet machine in
    about 0.5 % of runs (benchmarks/gate/zoo.py)."""
    logs = _p50(epochs, SHADOW)
    reach = SHARE * _tightest(budgets)
    e_shadow = _two_sided(logs, reach)
    runs = _runs(epochs)
    differs = e_shadow >= 1 / rules.alpha_unfit
    ordered = runs is not None and runs < ALPHA_RUNS
    reasons = []
    if differs:
        reasons.append(
            f"the baseline differs from itself by {100 * math.expm1(hodges_lehmann(logs)):+.1f} % "
            f"in p50 over {len(logs)} epochs, {100 * math.expm1(reach):.2f} % is allowed"
        )
    if ordered:
        reasons.append(
            f"epochs depend on the ones before them (runs test, p = {runs:.1g}): something on "
            "this machine drifts or comes and goes"
        )
    least = _least(rules.alpha_unfit)
    if not differs and len(logs) < least:
        reasons.append(
            f"not enough to tell whether the baseline differs from itself: {len(logs)} epochs "
            f"have it twice, {least} at least are needed"
        )
    return Fitness(
        fit=not differs and not ordered,
        reasons=tuple(reasons),
        shadow_ratio=math.exp(hodges_lehmann(logs)) if logs else None,
        shadow_epochs=len(logs),
        e_shadow=e_shadow,
        runs_p=runs,
        position=_position(epochs),
    )


def _p50(epochs: Sequence[Epoch], arm: str) -> list[float]:
    return [e.logs[arm]["p50"] for e in epochs if "p50" in e.logs.get(arm, {})]


def _tightest(budgets: Sequence[Budget]) -> float:
    """The smallest p50 budget as a logarithm; one that gates where there is one."""
    found = [b for b in budgets if b.metric == "p50" and b.limit > 0]
    gating = [b for b in found if b.mode == "gate"]
    return min((math.log1p(b.limit) for b in gating or found), default=math.log1p(USUAL))


def _two_sided(logs: Sequence[float], reach: float) -> float:
    """The largest mean so far of the e-values against "at most reach" and "at least -reach"."""
    above = below = 0
    largest = 1.0
    for n, log in enumerate(logs, 1):
        above += log > reach
        below += log < -reach
        largest = max(largest, (e_value(above, n) + e_value(below, n)) / 2)
    return largest


def _least(alpha: float) -> int:
    """Shadow epochs that can refute at all, when every one of them lies on one side."""
    n = 1
    while (e_value(n, n) + e_value(0, n)) / 2 < 1 / alpha:
        n += 1
    return n


def _runs(epochs: Sequence[Epoch]) -> float | None:
    """The smaller p-value of the candidate's and the shadow's runs, times two (Bonferroni)."""
    found = [p for arm in (CANDIDATE, SHADOW) if (p := runs_p(_p50(epochs, arm))) is not None]
    return min(1.0, len(found) * min(found)) if found else None


def _position(epochs: Sequence[Epoch]) -> float | None:
    """Half the difference between epochs whose candidate started after and before the baseline."""
    sides: tuple[list[float], list[float]] = [], []
    for e in epochs:
        if {BASELINE, CANDIDATE} <= set(e.order) and "p50" in e.logs.get(CANDIDATE, {}):
            after = e.order.index(CANDIDATE) > e.order.index(BASELINE)
            sides[after].append(e.logs[CANDIDATE]["p50"])
    if not all(sides):
        return None
    return (median(sides[True]) - median(sides[False])) / 2
