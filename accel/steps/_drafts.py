"""A gate's report before anything is judged: both sides, built, and the outcome where one cannot be judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from accel.errors import CandidateBroken, NoBaseline, UsageError
from accel.evidence import (
    BASELINE,
    CANDIDATE,
    REFERENCE,
    Fitness,
    Judgement,
    Outcome,
    Report,
    Rules,
    Subject,
)
from accel.steps import _circumstances as circumstances
from accel.steps._question import Question, called
from accel.steps._subject import subject


def drafted(wish: Question, scratch: Path, engine: str | None, data: str | None) -> Report:
    """Both sides, read and built, and where this runs; nothing is judged yet."""
    if data and wish.baseline.is_dir():
        raise UsageError(
            f"--data goes with a baseline that is an .onnx. {wish.baseline} is a release, whose own "
            f"requests are used: leave --data out."
        )
    if engine and wish.candidate.is_dir() and wish.baseline.is_dir():
        raise UsageError("--engine goes with an .onnx; two releases bring their own.")
    base = subject(
        wish.baseline, scratch / BASELINE, engine=engine, data=data, source=wish.workload
    )
    ours = Subject(wish.name, wish.candidate, "")  # not built for a baseline that does not run
    if not base.trouble:
        ours = subject(wish.candidate, scratch / CANDIDATE, engine=engine, like=base, data=data)
    last = None
    if wish.reference is not None and not base.trouble:
        last = subject(wish.reference, scratch / REFERENCE, engine=engine, like=base, data=data)
    return Report(
        name=wish.name,
        outcome="broken",
        line="",
        judgement=Judgement("broken", (), Fitness(True), True),
        candidate=ours,
        baseline=base,
        reference=last,
        rules=wish.rules,
        **circumstances.seen(ours, base),
    )


def missing(candidate: str | Path, baseline: str | Path, name: str | None, why: str) -> Report:
    """There is nothing to compare with: the candidate is not even read."""
    ours, base = (Subject(Path(p).name, Path(p), "") for p in (candidate, baseline))
    draft = Report(
        name=name or called(candidate),
        outcome="no baseline",
        line="",
        judgement=Judgement("no baseline", (), Fitness(True), True),
        candidate=ours,
        baseline=base,
        rules=Rules(),
        **circumstances.seen(),
    )
    return ended(draft, "no baseline", why)


def guarded(draft: Report, measured: Callable[[], Report]) -> Report:
    """Whose fault a failure is, as an outcome."""
    for side in (draft.baseline, draft.reference):
        if side is not None and side.trouble:
            return ended(draft, "no baseline", side.trouble)
    if draft.candidate.trouble:
        return ended(draft, "broken", draft.candidate.trouble)
    try:
        return measured()
    except NoBaseline as error:
        return ended(draft, "no baseline", str(error))
    except CandidateBroken as error:
        return ended(draft, "broken", str(error))


def ended(draft: Report, outcome: Outcome, reason: str) -> Report:
    judgement = Judgement(outcome, (), Fitness(True), True, (reason,))
    return dataclasses.replace(draft, outcome=outcome, judgement=judgement)
