"""The stage of scores: the survivors on the search split, in the order of their speed.

What screened far slower than the quickest that keeps the budget is not scored: no final would take it.
Every score is a look at the split, for which the certificate pays (Bonferroni), and most of a search's time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from accel import search, trials
from accel.constraints import Constraints, fits
from accel.job import Job
from accel.stages import Event, Progress
from accel.values import Candidate, Plan

UNSCORED = "not scored: "


def score(
    job: Job,
    table: Sequence[Candidate],
    constraints: Constraints,
    yardstick: Plan,
    progress: Progress,
    everything: bool = False,
) -> tuple[Candidate, ...]:
    """Judge the survivors on the search split; those over the budget are refused.

    `everything`: however slow."""
    progress(Event("phase", "score the fp32 reference"))
    baseline = trials.score(job, yardstick, "search", yardstick)
    budget = constraints.budget(baseline.value)
    alive = sorted((c for c in table if c.status == "built"), key=lambda c: c.screen_s or 0.0)
    done: dict[str, Candidate] = {}
    for i, built in enumerate(alive):
        slow = "" if everything else outpaced(built, tuple(done.values()), constraints)
        if slow:
            row = dataclasses.replace(built, status="pruned", reason=UNSCORED + slow)
        else:
            progress(Event("phase", f"score {built.name}", done=i, total=len(alive)))
            row = search.hold(trials.scored(job, built, baseline, yardstick), budget)
        progress(Event("candidate", row.reason, row))
        done[row.name] = row
    return tuple(done.get(c.name, c) for c in table)


def outpaced(candidate: Candidate, scored: Sequence[Candidate], constraints: Constraints) -> str:
    """Why it need not be scored, given what was: empty where it may yet come to a final."""
    if constraints.objective == "size" or not candidate.screen_s:
        return ""
    kept = [c for c in scored if c.status == "built" and c.screen_s and fits(c, constraints)]
    best_s = min((c.screen_s or 0.0 for c in kept), default=0.0)
    if not kept or candidate.screen_s <= search.CONTENDER_MARGIN * best_s:
        return ""
    if search.portable(candidate) and not any(map(search.portable, kept)):
        return ""  # a final has one that every runtime can run
    return search.slow(candidate.screen_s, best_s)


def rest(table: Sequence[Candidate]) -> tuple[Candidate, ...] | None:
    """The table with what was not scored put back, for when no one before it could be certified;
    None: there is nothing of the kind."""
    if not any(c.reason.startswith(UNSCORED) for c in table):
        return None
    return tuple(
        dataclasses.replace(c, status="built", reason="") if c.reason.startswith(UNSCORED) else c
        for c in table
    )
