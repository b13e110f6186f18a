"""The gate: is the candidate worse than the baseline by more than its budgets allow?

Exact things first (size, placement), then accuracy, then time: epochs of fresh processes until
every gating cell has its verdict. What was measured is evidence, kept under `work`: the same
command goes on from there, and a verdict that was reached stays reached.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accel import catalog, disk, release
from accel.errors import AccelError, CandidateBroken, NoBaseline
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
from accel.gating import (
    accuracy,
    chain,
    changes,
    decision,
    exact,
    nodes,
    rounds,
    sampler,
    verdicts,
    writing,
)
from accel.gating import budgets as limits
from accel.gating.samples import Alphas
from accel.gating.verdicts import Judged
from accel.scratch import scratch
from accel.steps import _circumstances as circumstances
from accel.steps import _drafts as drafts
from accel.steps._question import Question, question

Progress = Callable[[str], None]
NAMES_A_LOG = ("broken", "no baseline")  # what a process printed before it broke
SPEEDS = ("p50", "p99", "throughput")


def gate(
    candidate: str | Path,
    baseline: str | Path,
    *,
    name: str | None = None,
    budgets: limits.Asked | None = None,
    reference: str | Path | None = None,
    workload: str | Path | None = None,
    engine: str | None = None,
    data: str | Path | None = None,
    rules: Rules | Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    work: str | Path = circumstances.WORK,
    out: str | Path | None = None,
    witnesses: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> Report:
    """Judge `candidate` against `baseline`: release folders, .onnx files that are built alike, or
    for the baseline an accel.baselines.json, which holds it under `name`.

    `budgets` ({"p50": "3%"}, ["p50=3%"], ...) and `rules` default to those of `config` (accel.toml
    where there is one), then to accel's own; a mapping changes single rules of those. `reference`: the last release, for budgets
    against it. `workload`: its labelled samples give the accuracy. `out`: the folder for
    verdict.json and the other files that CI reads. `witnesses`: the verdict.json of earlier gates
    on the same evidence. A broken candidate, a baseline that is missing or does not run and an
    unfit machine are outcomes of the Report. Raises UsageError for bad input and evidence that was
    altered, EnvironmentProblem for what the machine refuses."""
    began, say = time.monotonic(), progress or (lambda _: None)
    kept, place, held = Path(work).absolute(), _path(out), limits.asked(budgets)
    place = place and place.absolute()  # the user's code may change the folder
    source, given = _text(workload), _text(data)
    seen = [verdicts.read(Path(file)) for file in witnesses]
    if place is not None:
        writing.claim(place)
    release.outside(kept, "--work")  # the default's lies where one stands, which may be a release
    try:
        wish = question(candidate, baseline, name, reference, source, held, rules, _path(config))
    except NoBaseline as error:
        report = drafts.missing(candidate, baseline, name, str(error))
    else:
        found: list[Report] = []

        def named() -> bool:
            return found[-1].outcome in NAMES_A_LOG

        # all of it: what a second gate builds and evaluates would disturb what this one times
        with chain.alone(kept / "gate"), scratch(named, prefix="accel-gate-") as folder:
            draft = drafts.drafted(wish, folder, _text(engine), given, kept / "logs")
            found.append(drafts.guarded(draft, lambda: _measured(draft, wish, kept, seen, say)))
        report = found[-1]
    options = {
        "name": name, "reference": reference, "workload": workload, "engine": engine,
        "data": data, "config": config, "work": kept, "out": out,
    }  # fmt: skip
    report = dataclasses.replace(
        report,
        seconds=time.monotonic() - began,
        line=catalog.load("report", "gate_line").line(report.name, report.judgement),
        command=circumstances.command(candidate, baseline, options, held, rules),
    )
    if place is not None:
        writing.write(report, place)
    return report


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _text(given: str | Path | None) -> str | None:
    return None if given is None else str(given)


def _measured(
    draft: Report,
    wish: Question,
    work: Path,
    witnesses: Sequence[Judged],
    say: Progress,
) -> Report:
    ours, base = draft.candidate, draft.baseline
    budgets, untold = exact.held(ours, base, wish.budgets, wish.own)
    alphas = Alphas(wish.rules.alpha_pass, decision.share(budgets, wish.rules))
    fixed = (
        *exact.cells(ours, base, budgets),
        *accuracy.cells(ours, base, budgets, wish.workload, work, say, alphas),
    )
    notes = (*wish.notes, *draft.notes, *untold, *circumstances.notes(ours, base))
    draft = dataclasses.replace(draft, changes=changes.lines(ours, base), notes=notes)
    if any(cell.outcome == "broken" for cell in fixed):
        judgement = decision.judge((), budgets, draft.rules, fixed)
        return dataclasses.replace(draft, outcome=judgement.outcome, judgement=judgement)
    header = circumstances.header(draft)
    folder = work / "gate" / chain.key(header)
    chain.create(folder, header)
    _, before, _ = chain.read(folder, circumstances.heads(witnesses, draft))
    further = (*chain.beside(folder, header), *chain.crashes(folder))
    epochs, judgement = _epochs(draft, budgets, fixed, folder, before, say)
    _, _, head = chain.read(folder)
    return dataclasses.replace(
        draft,
        notes=(*draft.notes, *further),
        outcome=judgement.outcome,
        judgement=judgement,
        changes=(*draft.changes, *_slower(judgement, ours, base, folder, say)),
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
        if rules.max_s and time.monotonic() - began > rules.max_s:
            break
        number = len(epochs)
        arms = _arms(draft, number)
        paced = dataclasses.replace(rules, rounds=rounds.planned(epochs, budgets, rules))
        tails = rounds.tails(epochs, budgets, rules)
        try:
            with disk.guarded(folder):
                requests = draft.baseline.requests
                found = sampler.epoch(number, arms, requests, paced, folder, tails=tails)
        except (CandidateBroken, NoBaseline) as error:
            return epochs, _crashed(folder, number, error)
        chain.append(folder, found)
        epochs = (*epochs, found)
        judgement = decision.judge(epochs, budgets, rules, fixed)
        say(_progress(epochs, judgement, rules, len(before)))
    return epochs, judgement


def _crashed(folder: Path, number: int, error: AccelError) -> Judgement:
    """What was measured before stays evidence; later runs are told of the crash."""
    chain.note_crash(folder, number, str(error))
    outcome: Outcome = "broken" if isinstance(error, CandidateBroken) else "no baseline"
    return Judgement(outcome, (), Fitness(True), True, (str(error),))


def _slower(
    judgement: Judgement, ours: Subject, base: Subject, folder: Path, say: Progress
) -> tuple[str, ...]:
    """Where the time went, when it was shown that some went."""
    shown = any(
        c.outcome == "fail" and c.budget.metric in SPEEDS and c.budget.arm == BASELINE
        for c in judgement.cells
    )
    if not shown:
        return ()
    say("profiling both, for the nodes that are slower")
    return nodes.slower(ours, base, folder / "profile.log")


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
