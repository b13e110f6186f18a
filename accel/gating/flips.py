"""Samples to which two models put another class first: what an equal accuracy can hide.

Dutta et al., "Accuracy is Not All You Need", arXiv 2407.09141: the answers of a compressed model may
change much more than its accuracy does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from accel.evidence import Budget, Cell, Outcome
from accel.gating import samples
from accel.measure import closeness
from accel.values import Feed

LEAST_TO_FAIL = 20  # one request that flips is beyond 2 %, and yet no sample of anything
NO_CLASSES = (
    "flips need an output [batch, classes] of floats that is named like logits ("
    + ", ".join(closeness.LOGITS)
    + ")"
)
CLUSTERED = (
    "the samples come in clusters, and flips count each as independent: hold the drop instead"
)


def changed(want: Sequence[Sequence[Feed]], got: Sequence[Sequence[Feed]]) -> Any | str:
    """For each item of each sample, whether the class that is put first differs: booleans [N]; or
    the reason why there is nothing to count.

    A sample is one call or several; of several calls of one item each it is one item, changed when
    any of them is."""
    import numpy as np

    calls = [[call for sample in side for call in sample] for side in (want, got)]
    name = closeness.logits(calls[0])
    if name is None:
        return f"{NO_CLASSES}; there are: {', '.join(want[0][0])}"
    if name in closeness.unpaired(*calls):
        return f'output "{name}" differs in shape, so that its items have no counterpart'
    found = [_items(name, w, g) for w, g in zip(want, got, strict=True)]
    if not sum(map(len, found)):
        return f"output {name} has no item in any sample: there is nothing to count"
    return np.concatenate(found, dtype=np.bool_)


def _items(name: str, want: Sequence[Feed], got: Sequence[Feed]) -> Any:
    import numpy as np

    same = [np.asarray(closeness.agreement(name, [w], [g])) for w, g in zip(want, got, strict=True)]
    if len(same) > 1 and all(len(s) == 1 for s in same):
        return np.array([not all(s[0] for s in same)])
    return np.concatenate(same) < 1


def cell(budget: Budget, flipped: Any, alphas: samples.Alphas = samples.BOTH) -> Cell:
    """Clopper-Pearson's limits, each one-sided at the level of a PASS: upper inside the budget PASS,
    lower beyond it, at the level of a FAIL too, FAIL, else cannot tell. `flipped`: booleans [N]."""
    n, count = len(flipped), int(flipped.sum())
    low, high = clopper_pearson(count, n, alphas.passing)
    limit, enough = budget.limit, n >= LEAST_TO_FAIL
    sure = clopper_pearson(count, n, alphas.fail)[0] > limit
    outcome: Outcome = "cannot tell"
    if high <= limit:
        outcome = "pass"
    elif sure and enough:
        outcome = "fail"
    reason = (
        f"{_share(count, n)} [{100 * low:.2f}, {100 * high:.2f}], budget {100 * limit:g} % "
        f"(Clopper-Pearson)"
    )
    if outcome == "cannot tell" and low > limit:
        least_n = f"{LEAST_TO_FAIL} samples are the least to FAIL on"
        reason += f"; {samples.unsure(alphas) if enough else least_n}"
    elif outcome == "cannot tell":
        reason += _more(n, count, low, high, limit)
    return Cell(
        budget,
        outcome,
        reason,
        epochs=n,
        worse=count,
        better=n - count,
        ratio=count / n,
        low=low,
        high=high,
        value=count / n,
        baseline=0.0,
    )


def clustered(budget: Budget, outcome: Outcome, flipped: Any) -> Cell:
    """The share alone: Clopper and Pearson's limits are of independent samples, and a bootstrap of
    clusters in which nothing flipped has none."""
    n, count = len(flipped), int(flipped.sum())
    return Cell(
        budget,
        outcome,
        f"{_share(count, n)}; {CLUSTERED}",
        epochs=n,
        worse=count,
        better=n - count,
        ratio=count / n,
        value=count / n,
        baseline=0.0,
    )


def clopper_pearson(count: int, n: int, alpha: float = samples.ALPHA) -> tuple[float, float]:
    """Limits of a share, each one-sided at 1 - alpha: Clopper & Pearson, Biometrika 26:404 (1934)."""
    from scipy.stats import beta

    low = 0.0 if count == 0 else float(beta.ppf(alpha, count, n - count + 1))
    high = 1.0 if count == n else float(beta.ppf(1 - alpha, count + 1, n - count))
    return low, high


def least(limit: float, alpha: float = samples.ALPHA) -> int | None:
    """Samples below which not even an unchanged candidate passes; None for a budget of 0, which no
    number proves."""
    if not 0 < limit < 1:
        return 1 if limit >= 1 else None
    return math.ceil(math.log(alpha) / math.log1p(-limit))


def beforehand(n: int, limit: float) -> str | None:
    """What is to be said before n samples are evaluated; None where they may do."""
    enough = least(limit)
    if enough is not None and n >= enough:
        return None
    told = "no number would" if enough is None else f"{samples.rounded(enough)} is the least"
    return f"{n:,} samples cannot prove a flip rate of at most {100 * limit:g} %, even without a flip; {told}"


def _share(count: int, n: int) -> str:
    return f"{count:,} of {n:,} samples changed their first class: {100 * count / n:.2f} %"


def _more(n: int, count: int, low: float, high: float, limit: float) -> str:
    if limit <= 0:
        return "; no number of samples proves a rate of 0"
    if count == 0:
        return f"; {samples.rounded(least(limit) or n)} samples without a flip would do"
    wanted = samples.more(n, count / n, low, high, limit)
    return "" if wanted is None else f"; about {samples.rounded(max(wanted, n + 1))} would tell"
