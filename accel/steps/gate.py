"""The gate: is the candidate worse than the baseline by more than its budgets allow?

Exact things first (size, placement), then accuracy, then time: epochs of fresh processes until
every gating cell has its verdict. What was measured is evidence, kept under `work`: the same
command goes on from there, and a verdict that was reached stays reached.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from accel import catalog
from accel.errors import CandidateBroken, NoBaseline
from accel.evidence import (
    BASELINE,
    CANDIDATE,
    REFERENCE,
    SHADOW,
    TIMED,
    Budget,
    Cell,
    Epoch,
    Fitness,
    Judgement,
    Outcome,
    Report,
    Rules,
    Subject,
)
from accel.gating import accuracy, chain, changes, decision, exact, sampler, writing
from accel.gating import budgets as budget_files
from accel.steps import _circumstances as circumstances
from accel.steps._subject import subject

Progress = Callable[[str], None]
RULES = Rules()


def gate(
    candidate: str | Path,
    baseline: str | Path,
    *,
    name: str | None = None,
    budgets: Sequence[Budget] | None = None,
    reference: str | Path | None = None,
    workload: str | None = None,
    engine: str | None = None,
    data: str | None = None,
    rules: Rules = RULES,
    work: Path = Path(".accel"),
    out: Path | None = None,
    witnesses: Sequence[tuple[int, str]] = (),
    progress: Progress | None = None,
) -> Report:
    """Judge `candidate` against `baseline`: release folders, or .onnx files built alike.

    `budgets` default to those of accel.toml beside the caller, else to accel's own. `reference`:
    the last release, for budgets against it. `workload`: its labelled samples give the accuracy.
    `out`: the folder for verdict.json and the other files that CI reads. `witnesses`: (epochs,
    hash) of earlier verdicts on the same evidence. A broken candidate, a baseline that does not
    run and an unfit machine are outcomes of the Report. Raises UsageError for bad input and
    evidence that was altered, EnvironmentProblem for what the machine refuses."""
    began = time.monotonic()
    chosen = tuple(budget_files.load(None, name or "") if budgets is None else budgets)
    say = progress or (lambda _: None)
    with tempfile.TemporaryDirectory(prefix="accel-gate-") as place:
        scratch = Path(place)
        base = subject(baseline, scratch / BASELINE, engine=engine, data=data)
        like = {"engine": engine, "like": base, "data": data}
        ours = subject(candidate, scratch / CANDIDATE, **like)
        last = reference and subject(reference, scratch / REFERENCE, **like)
        draft = Report(
            name=name or ours.name,
            outcome="broken",
            line="",
            judgement=Judgement("broken", (), Fitness(True), True),
            candidate=ours,
            baseline=base,
            reference=last or None,
            rules=rules,
            command=circumstances.command(candidate, baseline, name, workload),
            **circumstances.seen(ours, base),
        )
        report = _guarded(draft, lambda: _measured(draft, chosen, workload, work, witnesses, say))
    report = dataclasses.replace(report, seconds=time.monotonic() - began)
    line = catalog.load("report", "gate_line").line(report.name, report.judgement)
    report = dataclasses.replace(report, line=line)
    if out is not None:
        writing.write(report, out)
    return report


def _guarded(draft: Report, measured: Callable[[], Report]) -> Report:
    """Whose fault a failure is, as an outcome."""
    for side in (draft.baseline, draft.reference):
        if side is not None and side.trouble:
            return _ended(draft, "no baseline", side.trouble)
    if draft.candidate.trouble:
        return _ended(draft, "broken", draft.candidate.trouble)
    try:
        return measured()
    except NoBaseline as error:
        return _ended(draft, "no baseline", str(error))
    except CandidateBroken as error:
        return _ended(draft, "broken", str(error))


def _ended(draft: Report, outcome: Outcome, reason: str) -> Report:
    judgement = Judgement(outcome, (), Fitness(True), True, (reason,))
    return dataclasses.replace(draft, outcome=outcome, judgement=judgement)


def _measured(
    draft: Report,
    budgets: Sequence[Budget],
    workload: str | None,
    work: Path,
    witnesses: Sequence[tuple[int, str]],
    say: Progress,
) -> Report:
    ours, base = draft.candidate, draft.baseline
    fixed = (
        *exact.cells(ours, base, budgets),
        *accuracy.cells(ours, base, budgets, workload, work, say),
    )
    draft = dataclasses.replace(
        draft, changes=changes.lines(ours, base), notes=circumstances.notes(ours, base)
    )
    if any(cell.outcome == "broken" for cell in fixed):
        judgement = decision.judge((), budgets, draft.rules, fixed)
        return dataclasses.replace(draft, outcome=judgement.outcome, judgement=judgement)
    header = circumstances.header(draft)
    folder = work.absolute() / "gate" / chain.key(header)
    with chain.alone(folder):
        chain.create(folder, header)
        _, before, _ = chain.read(folder, witnesses)
        epochs, judgement = _epochs(draft, budgets, fixed, folder, before, say)
        _, _, head = chain.read(folder)
    return dataclasses.replace(
        draft,
        outcome=judgement.outcome,
        judgement=decision.told(judgement, epochs, draft.rules),
        epochs=epochs,
        new_epochs=len(epochs) - len(before),
        evidence=folder,
        evidence_head=head,
    )


def _epochs(
    draft: Report,
    budgets: Sequence[Budget],
    fixed: Sequence[Cell],
    folder: Path,
    before: tuple[Epoch, ...],
    say: Progress,
) -> tuple[tuple[Epoch, ...], Judgement]:
    """Add epochs until the judgement is done, or this run's allowance is used up."""
    rules, epochs, began = draft.rules, before, time.monotonic()
    judgement = decision.judge(epochs, budgets, rules, fixed)
    while not judgement.done and len(epochs) - len(before) < rules.max_epochs:
        if rules.max_s is not None and time.monotonic() - began > rules.max_s:
            break
        number = len(epochs)
        arms = _arms(draft, number)
        found = sampler.epoch(number, arms, draft.baseline.requests, rules, folder)
        chain.append(folder, found)
        epochs = (*epochs, found)
        judgement = decision.judge(epochs, budgets, rules, fixed)
        say(_progress(epochs, judgement, rules, len(before)))
    return epochs, judgement


def _arms(draft: Report, number: int) -> dict[str, Subject]:
    arms = {BASELINE: draft.baseline, CANDIDATE: draft.candidate}
    if draft.rules.shadow_every and number % draft.rules.shadow_every == 0:
        arms[SHADOW] = draft.baseline
    if draft.reference is not None:
        arms[REFERENCE] = draft.reference
    return arms


def _progress(epochs: Sequence[Epoch], judgement: Judgement, rules: Rules, before: int) -> str:
    cells = [c for c in judgement.cells if c.budget.metric in TIMED and c.budget.mode == "gate"]
    told = [f"{c.budget.metric} {c.outcome}" for c in cells]
    return f"epoch {len(epochs)} of at most {before + rules.max_epochs}: {', '.join(told)}"
