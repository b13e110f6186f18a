"""A gate's report before anything is judged: both sides, built, and the outcome where one cannot be judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from accel import disk
from accel.errors import (
    AccelError,
    CandidateBroken,
    MissingExtra,
    NoBaseline,
    UsageError,
    concerns_all,
)
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
from accel.measure.outputs import outputs
from accel.steps import _circumstances as circumstances
from accel.steps._question import Question, called
from accel.steps._subject import subject


def drafted(
    wish: Question, scratch: Path, engine: str | None, data: str | None, logs: Path
) -> Report:
    """Both sides, read and built, and where this runs; nothing is judged yet. `logs`: for what is
    named in a note, and must still be there when the scratch folder has gone."""
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
    last: Subject | None = None
    left = ""
    if wish.reference is not None and not base.trouble:
        last, left = _last(wish, wish.reference, scratch / REFERENCE, engine, base, logs)
    return Report(
        name=wish.name,
        outcome="broken",
        line="",
        judgement=Judgement("broken", (), Fitness(True), True),
        candidate=ours,
        baseline=base,
        reference=last,
        rules=wish.rules,
        notes=(f"the last release is not timed beside these: {left}",) if left else (),
        **circumstances.seen(ours, base, folder=wish.folder),
    )


def _last(
    wish: Question, path: Path, place: Path, engine: str | None, base: Subject, logs: Path
) -> tuple[Subject | None, str]:
    """The last release. Where no budget that gates counts from it, it is timed for the history alone:
    one that does not run here is left out, and why is told; it must not end every gate."""
    counts = any(b.arm == REFERENCE and b.mode == "gate" for b in wish.budgets)
    try:
        found = subject(path, place, engine=engine, like=base)
    except MissingExtra as error:
        if counts:
            raise
        return None, str(error)
    left = "" if counts else found.trouble or _silent(found, base, place / "once", logs)
    return (None, left) if left else (found, "")


def _silent(last: Subject, base: Subject, place: Path, logs: Path) -> str:
    """Why it does not answer the requests that are timed, each once; empty where it does."""
    assert last.plan is not None  # it has no trouble
    feeds = [request.inputs for request in base.requests]
    log = logs / f"last-{last.digest[:12]}.log"
    try:
        with disk.guarded(logs):
            outputs(last.plan, feeds, place, name=last.name, log=log)
    except AccelError as error:
        if concerns_all(error):
            raise
        return str(error)
    return ""


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
