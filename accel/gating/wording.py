"""A timed cell in words, with units: for the one line that a person reads. Pure functions."""

from __future__ import annotations

import math

from accel.evidence import REFERENCE, Budget, Cell, Epoch
from accel.gating.readings import P99_CALLS
from accel.gating.rounds import tail_s

BYTES = ("peak_memory", "size")
SPEED = ("slower", "faster", "fast")


def name(budget: Budget) -> str:
    """The statistic that a budget is of, and against which release: "p99/batch"."""
    group = f"/{budget.group}" if budget.group else ""
    against = " against the last release" if budget.arm == REFERENCE else ""
    return f"{budget.metric}{group}{against}"


def change(metric: str, ratio: float) -> str:
    """How a ratio of candidate over baseline reads: "5.2 % slower", "1.0 % smaller", "as fast"."""
    worse, better, same = ("larger", "smaller", "large") if metric in BYTES else SPEED
    percent = f"{abs(100 * (ratio - 1)):.1f}"
    return f"as {same}" if percent == "0.0" else f"{percent} % {worse if ratio > 1 else better}"


def amount(metric: str, value: float) -> str:
    """A value in its unit: ms of a duration, MB (10^6 bytes) of memory."""
    if metric in BYTES:
        return f"{value / 1e6:.4g} MB"
    return f"{value * 1e3:.4g} ms" + (" a request" if metric == "throughput" else "")


def verdict(cell: Cell) -> str:
    """Why a cell that has epochs came out as it did."""
    budget = f"a budget of {100 * cell.budget.limit:g} %"
    said = {
        "fail": f"{budget} was exceeded in {cell.worse} of {cell.epochs} epochs",
        "pass": f"{budget} was kept in {cell.better} of {cell.epochs} epochs",
    }.get(
        cell.outcome,
        f"{budget} was exceeded in {cell.worse} and kept in {cell.better} of {cell.epochs} epochs, "
        "which settles nothing yet",
    )
    return f"{_measured(cell)}; {said}"


def incapable(cell: Cell, epochs: int, smallest: float) -> str:
    """Why a budget is too tight for the noise seen, and the smallest that is not."""
    noise = 0.0 if cell.sigma is None else 100 * cell.sigma
    can = f"can gate {_up(smallest)} %" if math.isfinite(smallest) else "can gate no budget"
    return (
        f"{_measured(cell)}; too noisy here for a budget of {100 * cell.budget.limit:g} %: an epoch "
        f"scatters by {noise:.1f} % (robust standard deviation), with which {epochs} epochs {can}"
    )


def missing(budget: Budget, epochs: tuple[Epoch, ...], arm: str) -> str:
    """Why there is nothing to judge a budget by, and what it would take."""
    if not epochs:
        return "not measured: there is no epoch yet"
    if budget.arm == REFERENCE and not any(REFERENCE in e.logs for e in epochs):
        return "not measured: no epoch ran the last release beside the candidate"
    if budget.metric == "p99":
        return (
            f"no epoch carries a p99: it needs {P99_CALLS} calls of a request group, an arm and an "
            f"epoch, and {_fewest(epochs)}; more rounds, a longer timed_s or block_s give them"
            f"{_pace(budget.group, epochs)}"
        )
    known = sorted({k for e in epochs for k in e.logs.get(arm, {})})
    return f"no epoch has it; what was measured: {', '.join(known) or 'nothing'}"


def _fewest(epochs: tuple[Epoch, ...]) -> str:
    """The arm for whose sake no arm is told a p99 of."""
    arms = sorted({arm for e in epochs for arm in e.calls})
    most = {arm: max(e.calls.get(arm, 0) for e in epochs) for arm in arms}
    if not most:
        return "no arm is known to have made any"
    arm = min(arms, key=most.__getitem__)
    return f"the {arm} had {most[arm]} of all groups at most"


def _pace(group: str, epochs: tuple[Epoch, ...]) -> str:
    """What those calls take, of the group or of the slowest."""
    found = {g: s for g, s in tail_s(epochs).items() if group in ("", g)}
    return f" ({P99_CALLS} took the baseline {max(found.values()):.3g} s)" if found else ""


def _measured(cell: Cell) -> str:
    """ "5.2 % slower [3.6, 6.9]: 12.5 ms against 11.9 ms"."""
    metric = cell.budget.metric
    text = "" if cell.ratio is None else change(metric, cell.ratio)
    if cell.low is not None and cell.high is not None:
        text += f" [{100 * (cell.low - 1):.1f}, {100 * (cell.high - 1):.1f}]"
    if cell.value is not None and cell.baseline is not None:
        text += f": {amount(metric, cell.value)} against {amount(metric, cell.baseline)}"
    return text


def _up(share: float) -> str:
    """A share in percent, rounded up: what is promised can be kept."""
    return f"{math.ceil(1000 * share - 1e-9) / 10:g}"
