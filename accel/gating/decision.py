"""What follows from the epochs: an outcome for each budget, and one for the whole. Pure.

A FAIL is claimed of the family of gating cells that chance plays a part in. Each of them has an equal part
of alpha_fail: an accuracy spends its own, and the timed ones share theirs by Holm's correction (Holm,
Scandinavian Journal of Statistics 6:65, 1979), so that any false FAIL has at most alpha_fail. A PASS claims
that every gating cell is within its budget, an intersection-union test, which needs no correction
(Berger, Technometrics 24:295, 1982). Both stand on e-values, so that the epochs may be judged after
each of them, and by a later run together with its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accel.evidence import SCORED, TIMED, Budget, Cell, Epoch, Judgement, Outcome, Rules
from accel.gating import fitness, timed, wording

# What stands above what, when cells differ: the exit codes 6 > 5 > 1 > 4 > 3 > 0. A FAIL holds
# however noisy other cells are; one that was timed does not hold on an unfit instrument: `_doubted`.
PRECEDENCE: tuple[Outcome, ...] = (
    "broken", "no baseline", "fail", "unfit", "cannot tell", "pass",
)  # fmt: skip
SETTLED = ("pass", "fail")
ANEW = "these epochs stay unfit: measure anew, on a quiet machine and with another --work (in CI: stream)"


def judge(
    epochs: Sequence[Epoch], budgets: Sequence[Budget], rules: Rules, fixed: Sequence[Cell] = ()
) -> Judgement:
    """What the epochs so far say; called after each of them.

    `fixed`: cells that need no epochs, counted or scored, already with their outcome. A gating
    budget that nobody answered is "cannot tell", never a pass. `done` tells that no further epoch
    is worth its time: a timed cell failed, or each has its verdict or a statistic that is in no
    epoch, and there are enough epochs for an interval; or the instrument is unfit, or an arm
    broken."""
    fit = fitness.judged(epochs, budgets, rules)
    cells = tuple(_doubted(c, fit.fit) for c in _cells(epochs, budgets, rules, fixed))
    gating = [c for c in cells if c.budget.mode == "gate"]
    outcome = _whole(gating, fit.fit)
    stopped = not fit.fit or outcome in ("broken", "no baseline")
    return Judgement(
        outcome=outcome,
        cells=cells,
        fitness=fit,
        done=stopped or _settled(gating, len(epochs), any(b.metric in TIMED for b in budgets)),
        reasons=_reasons(gating, () if fit.fit else (*fit.reasons, ANEW)),
    )


def share(budgets: Sequence[Budget], rules: Rules) -> float:
    """Of alpha_fail, each gating cell's own where chance plays a part in it."""
    members = [b for b in budgets if b.metric in (*TIMED, *SCORED) and b.mode == "gate"]
    return rules.alpha_fail / max(1, len(members))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: rejecting those <= alpha keeps the family at alpha."""
    adjusted, largest = [1.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def _cells(
    epochs: Sequence[Epoch], budgets: Sequence[Budget], rules: Rules, fixed: Sequence[Cell]
) -> tuple[Cell, ...]:
    """A cell a budget, in their order; then what is fixed and has no budget among them."""
    family = [b for b in budgets if b.metric in TIMED and b.mode == "gate"]
    alone = share(budgets, rules)
    found = {
        b: timed.measured(b, epochs, rules, alone if b in family else rules.alpha_fail)
        for b in budgets
        if b.metric in TIMED
    }
    p = {b: cell.p_fail for b, cell in found.items()}  # a watched cell's stays its own
    all_of_it = rules.alpha_fail / alone / max(1, len(family))  # members for each timed one
    p |= {
        b: min(1.0, all_of_it * q)
        for b, q in zip(family, holm([p[b] for b in family]), strict=True)
    }
    answers = {c.budget: c for c in fixed}
    answers |= {b: timed.ruled(cell, epochs, rules, p[b]) for b, cell in found.items()}
    asked = tuple(answers.get(b) or _unanswered(b) for b in budgets)
    return asked + tuple(c for c in fixed if c.budget not in budgets)


def _doubted(cell: Cell, fit: bool) -> Cell:
    """A FAIL that was timed does not hold on an unfit instrument."""
    if fit or cell.outcome != "fail" or cell.budget.metric not in TIMED:
        return cell
    reason = f"beyond its budget, on an unfit instrument: {cell.reason}"
    return replace(cell, outcome="unfit", reason=reason)


def _unanswered(budget: Budget) -> Cell:
    return Cell(budget, "cannot tell", "not measured: nothing told its value")


def _whole(gating: Sequence[Cell], fit: bool) -> Outcome:
    """The outcome that stands above the others; nothing gated, or timed on an unfit instrument, ever
    passes."""
    seen = {*(c.outcome for c in gating), *(() if fit else ("unfit",))} or {"cannot tell"}
    return next(o for o in PRECEDENCE if o in seen)


def _settled(gating: Sequence[Cell], epochs: int, any_timed: bool) -> bool:
    if not any_timed:
        return True
    found = [c for c in gating if c.budget.metric in TIMED]
    failed = any(c.outcome == "fail" for c in found)  # nothing that comes takes it back
    settled = failed or all(c.outcome in SETTLED or not c.epochs for c in found)
    return epochs >= timed.LEAST and settled


def _reasons(gating: Sequence[Cell], unfit: Sequence[str]) -> tuple[str, ...]:
    """Why the whole is what it is, worst first; a pass needs no reason."""
    if not gating:
        return (*unfit, "no budget gates anything: set one without :watch")
    told = [c for o in PRECEDENCE for c in gating if c.outcome == o != "pass"]
    return (*unfit, *(f"{wording.name(c.budget)}: {c.reason}" for c in told))
