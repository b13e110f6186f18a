"""How many rounds the next epoch has, and of which groups a p99 is seen to.

Rounds are as many as make an epoch's noise small beside the budget.

An epoch's p50 is a median over r rounds, whose variance is about (pi / 2) s2_round / r; processes that were
started anew add s2_between. Rounds are added until both together are at most budget / 1.5: of a candidate that
changed nothing, 93 % of the epochs then lie on the right side of the budget. The number follows from earlier
epochs alone and is the same for every arm, so under "no difference" the next sign is a fair coin as before.

A p99 needs P99_CALLS calls of a group. Left to the clock, the slower arm would fall short of them and take its
own gate away; so blocks are then as long as it takes, for every arm, by what the baseline took in earlier epochs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from accel.evidence import BASELINE, CANDIDATE, Budget, Epoch, Rules
from accel.gating.readings import P99_CALLS

LEARNT = 4  # epochs, before anything is said of the noise
MOST = 8  # times the rounds of the rules
SIDE = 1.5  # standard deviations from no difference to the budget
LONGER = 2  # times the blocks of the rules that a p99 may take, where timed_s is no more
MAD_TO_SIGMA = 1.4826  # of a normal distribution: 1 / Phi^-1(3/4)


def planned(epochs: Sequence[Epoch], budgets: Sequence[Budget], rules: Rules) -> int:
    """The rules' own number, or up to MOST times as many where the tightest p50 budget needs it."""
    limits = [b.limit for b in budgets if b.metric == "p50" and b.mode == "gate" and b.limit > 0]
    known = [e for e in epochs if {BASELINE, CANDIDATE} <= e.rounds_s.keys()]
    if len(known) < LEARNT or not limits:
        return rules.rounds
    round_s2, between_s2 = _variances(known)
    room = (math.log1p(min(limits)) / SIDE) ** 2 - between_s2
    most = MOST * rules.rounds
    needed = math.ceil(math.pi / 2 * round_s2 / room) if room > 0 else most
    return min(most, max(rules.rounds, needed))


def tails(epochs: Sequence[Epoch], budgets: Sequence[Budget], rules: Rules) -> frozenset[str]:
    """The groups whose p99 gates, or counts for one that does, and is within reach: every arm then
    makes P99_CALLS calls of them in the next epoch, however slow it is.

    Out of reach is what would take the baseline longer than timed_s, and than twice its blocks; of
    a p99 over all groups each is needed, or none."""
    asked = {b.group for b in budgets if b.metric == "p99" and b.mode == "gate"}
    most_s = max(rules.timed_s, LONGER * rules.rounds * rules.block_s)
    needed_s = tail_s(epochs)
    near = {group for group, seconds in needed_s.items() if seconds <= most_s}
    whole = "" in asked and near == needed_s.keys()
    return frozenset(near if whole else near & asked)


def tail_s(epochs: Sequence[Epoch]) -> dict[str, float]:
    """Group -> seconds that the baseline takes for P99_CALLS calls of it, by the epochs so far."""
    found: dict[str, list[float]] = {}
    for values in (e.values.get(BASELINE, {}) for e in epochs):
        for key, seconds in values.items():
            metric, _, group = key.partition("/")
            if metric == "throughput" and group:
                found.setdefault(group, []).append(seconds)
    return {group: P99_CALLS * statistics.median(seen) for group, seen in found.items()}


def _variances(epochs: Sequence[Epoch]) -> tuple[float, float]:
    """Of a round within its epoch, and between epochs; robust, since both have heavy tails."""
    import numpy as np

    ratios = [np.log(np.divide(e.rounds_s[CANDIDATE], e.rounds_s[BASELINE])) for e in epochs]
    # differences of neighbours: no centre to estimate from few rounds, and slow drift drops out
    steps = np.concatenate([np.diff(r) for r in ratios]) / math.sqrt(2)
    round_s2 = _robust(steps) ** 2 if len(steps) else 0.0
    share = float(np.mean([1 / len(r) for r in ratios]))
    whole = _robust(np.asarray([np.median(r) for r in ratios])) ** 2
    return round_s2, max(0.0, whole - math.pi / 2 * round_s2 * share)


def _robust(values: Any) -> float:
    import numpy as np

    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))
