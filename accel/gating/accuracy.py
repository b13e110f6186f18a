"""Is the candidate as accurate as the baseline? Both answer the same samples, in fresh processes.

Answers are deterministic and slow to get, so each subject's are kept as a finished step: a re-run
judges the same rows again and can say nothing new of them. What no label is needed for is always
asked: NaN or Inf where the baseline has none, and how far the outputs are apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accel import arrays, disk, store
from accel import workload as workloads
from accel.errors import CandidateBroken, NoBaseline, UsageError
from accel.evidence import SCORED, Budget, Cell, Outcome, Subject
from accel.gating import asked, drops, flips, packed, samples
from accel.gating.asked import Asked
from accel.gating.drops import Rows
from accel.guard import guarded, number
from accel.measure import closeness, machine
from accel.measure.outputs import outputs
from accel.plain import shown
from accel.using import Using
from accel.values import Feed, Plan, Port

Say = Callable[[str], None]
WATCHED = Budget("flips", 1.0, "%", "watch")  # where no budget is set: told, decides nothing
NO_DATA = "the inputs are random numbers, not data; add --data FILE.npz or --workload FILE.py"
LABELS = "add samples, row and metric to the workload"
ADD = "add --workload FILE.py with samples, row and metric"


@dataclass(frozen=True)
class Answers:
    """An .npz of outputs, as a step's value."""

    path: Path


def cells(
    candidate: Subject,
    baseline: Subject,
    budgets: Sequence[Budget],
    workload_source: str | None,
    out: Path,
    progress: Say | None = None,
    alphas: samples.Alphas = samples.BOTH,
) -> tuple[Cell, ...]:
    """A cell for each budget of SCORED, all against this baseline; one that is watched where there
    is none; "broken" where the candidate does not run, or gives NaN or Inf and the baseline does
    not. Rows go to `rows_file`, steps to out/"store".

    Raises UsageError for a broken workload and for subjects whose ports differ, EnvironmentProblem
    for a machine that lacks something."""
    wanted = tuple(b for b in budgets if b.metric in SCORED)
    say = progress or (lambda _: None)
    try:
        return _cells(candidate, baseline, wanted, workload_source, out.absolute(), say, alphas)
    except NoBaseline as error:
        return _all(wanted, "no baseline", str(error))
    except CandidateBroken as error:
        return _all(wanted, "broken", str(error))


def _cells(
    candidate: Subject,
    baseline: Subject,
    wanted: Sequence[Budget],
    source: str | None,
    out: Path,
    say: Say,
    alphas: samples.Alphas,
) -> tuple[Cell, ...]:
    if baseline.plan is None:
        raise NoBaseline(f"{baseline.name}: {baseline.trouble or 'there is no plan to run'}")
    _require_alike(_plan(candidate), baseline.plan)
    asks = asked.gather(candidate, baseline, source)
    for line in beforehand(asks, wanted):
        say(line)
    try:
        want = _answers(baseline, asks, out, say)
    except CandidateBroken as error:
        raise NoBaseline(f"The baseline does not run: {error}") from None
    got = _answers(candidate, asks, out, say)
    declared = asked.shapes(baseline.plan.model, asks.feeds, want)
    seen = closeness.compare(want, got, declared)
    if not seen.outputs and seen.reasons:
        why = shown(seen.reasons[0], keep="")
        raise UsageError(f"{candidate.name} and {baseline.name} cannot be compared: {why}")
    bad = [
        f"output {shown(o.name, keep='')}: {o.non_finite} values"
        for o in seen.outputs
        if o.non_finite
    ]
    if bad:
        raise CandidateBroken(f"NaN or Inf where the baseline has none: {', '.join(bad)}")
    units = asked.paired(asks, want), asked.paired(asks, got)
    judged = [
        _judged(b, candidate, baseline, asks, units, out, alphas) for b in wanted or (WATCHED,)
    ]
    return (*judged[:-1], _with(judged[-1], closeness.told(seen.outputs)))


def beforehand(asks: Asked, budgets: Sequence[Budget]) -> list[str]:
    """What is to be said before anything is run: budgets for which the samples are too few."""
    told: list[str | None] = []
    for budget in budgets:
        if budget.metric == "flips" and asks.clustered:
            told.append(f"flips cannot be told: {flips.CLUSTERED}")
        elif budget.metric == "flips":
            told.append(flips.beforehand(_items(asks), budget.limit))
        elif asks.samples and not asks.clustered:  # else its clusters count, not its rows
            share = budget.limit if budget.unit == "%" else budget.limit / 100
            said = samples.beforehand(len(asks.units), share) if share < 1 else None
            told.append(said and f"if rows are right or wrong: {said}")
    return [line for line in told if line]


def _items(asks: Asked) -> int:
    """What flips may count, at most: the items of a batch; a sample of several calls is one."""
    return sum(
        max((x.shape[0] for x in unit[0].values() if x.ndim), default=1) if len(unit) == 1 else 1
        for unit in asks.units
    )


def rows_file(candidate: Subject, baseline: Subject, out: Path) -> Path:
    """Where the rows of this pair are kept, "baseline" and "candidate" in one .npz."""
    pair = store.digest_json([baseline.digest, candidate.digest])
    return out / "rows" / f"{pair[:20]}.npz"


def _judged(
    budget: Budget,
    candidate: Subject,
    baseline: Subject,
    asks: Asked,
    units: tuple[list[tuple[Feed, ...]], list[tuple[Feed, ...]]],
    out: Path,
    alphas: samples.Alphas,
) -> Cell:
    if budget.metric == "flips":
        found = NO_DATA if asks.drawn and not asks.samples else flips.changed(*units)
        outcome: Outcome = "pass" if budget == WATCHED else "cannot tell"
        if isinstance(found, str):
            return Cell(budget, outcome, found)
        if asks.clustered:
            return flips.clustered(budget, outcome, found)
        return flips.cell(budget, found, alphas)
    rows = _rows(candidate, baseline, asks, *units)
    if isinstance(rows, str):
        return Cell(budget, "cannot tell", rows)
    path = rows_file(candidate, baseline, out)
    with disk.guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays.save(path, [{"baseline": rows.baseline, "candidate": rows.candidate}])
    cell = drops.cell(budget, rows, alphas)
    if cell.outcome == "broken":  # watched or not: a wreck never passes
        raise CandidateBroken(cell.reason)
    return cell


def _rows(
    candidate: Subject,
    baseline: Subject,
    asks: Asked,
    want: list[tuple[Feed, ...]],
    got: list[tuple[Feed, ...]],
) -> Rows | str:
    """Of the workload's labels; without labels, of the baseline's own answers; without a workload,
    those that both releases hold."""
    workload = asks.workload
    if workload is None:
        found = packed.rows(candidate, baseline)
        return f"{found}; {ADD}" if isinstance(found, str) else found
    if not asks.samples:
        return NO_DATA if asks.drawn else _fidelity(want, got)
    if workload.metric is None:
        raise UsageError(f"{workload.source} has samples but no metric(rows). Add it.")
    metric, labels = workload.metric, [label for _, label in asks.samples]
    a, b = (workloads.rows(workload, answers, labels) for answers in (want, got))
    guarded("metric()", lambda: float(metric(a)))  # what fails on the whole is no matter of a draw
    return Rows(
        a,
        b,
        lambda rows: number("metric()", lambda: metric(rows)),
        workload.metric_name,
        workload.metric_unit,
        workload.higher_is_better,
        workloads.clusters(workload, asks.split, len(labels)),
        asks.origin,
    )


def _fidelity(want: list[tuple[Feed, ...]], got: list[tuple[Feed, ...]]) -> Rows | str:
    """Closeness to the baseline, which is 1 for the baseline itself; or why it has none."""
    import numpy as np

    calls = [[call for unit in u for call in unit] for u in (want, got)]
    first = closeness.logits(calls[0])
    if lost := [n for n in closeness.unpaired(*calls) if first in (None, n)]:
        return f'output "{lost[0]}" differs in shape, so that closeness is none; {LABELS}'
    if not any(array.size for call in calls[0] for array in call.values()):
        return f"{closeness.NO_VALUES}; {LABELS}"
    name, rows = closeness.fidelity(*calls)
    told = name.replace("the reference", "the baseline")
    origin = "requests: there are no labels, so that a change counts as a loss"
    return Rows(np.ones(len(rows)), np.array(rows), closeness.fidelity_metric, told, origin=origin)


def _answers(subject: Subject, asks: Asked, out: Path, say: Say) -> list[Feed]:
    """The subject's outputs on every feed, by a finished step where there is one."""
    plan, feeds = _plan(subject), asks.feeds
    key = {
        "subject": subject.artefact or subject.digest,
        "plan": [plan.engine, plan.options, plan.versions],
        "feeds": arrays.digest(feeds),
        "libraries": machine.versions(),
        "machine": machine.machine_class(machine.fingerprint()),
    }

    def make(folder: Path) -> Answers:
        say(f"accuracy: {len(asks.units):,} samples ({asks.origin}) in {subject.name}")
        # a step that fails takes its folder with it, not what the worker printed
        log = out / "logs" / f"answers-{subject.digest[:12]}.log"
        return Answers(outputs(plan, feeds, folder, name=subject.name, log=log))

    try:
        using = Using()
        done = store.run(out / "store", "answers", key, Answers, make, using)
        if done.damaged:
            say(f"accuracy: made again, since the finished step was damaged: {done.damaged}")
        return arrays.load(done.value.path)
    except UsageError as error:
        raise UsageError(f"{subject.name}: {error}") from None


def _plan(subject: Subject) -> Plan:
    if subject.plan is None:
        raise CandidateBroken(f"{subject.name}: {subject.trouble or 'there is no plan to run'}")
    return subject.plan


def _require_alike(candidate: Plan, baseline: Plan) -> None:
    """Both must take the same inputs and give outputs of the same names, else nothing is paired."""
    pairs = (
        ("inputs", _taken(candidate.model.inputs), _taken(baseline.model.inputs)),
        ("outputs", _names(candidate.model.outputs), _names(baseline.model.outputs)),
    )
    for what, here, there in pairs:
        if here != there:
            ours, theirs = (shown(", ".join(one), keep="") or "none" for one in (here, there))
            raise UsageError(
                f"Candidate and baseline have different {what}: {ours} against {theirs}. Export both "
                f"with the same {what}; see: accel inspect"
            )


def _taken(ports: Sequence[Port]) -> list[str]:
    return sorted(f"{p.name} {p.dtype}" for p in ports)


def _names(ports: Sequence[Port]) -> list[str]:
    return sorted(p.name for p in ports)


def _all(budgets: Sequence[Budget], outcome: Outcome, reason: str) -> tuple[Cell, ...]:
    """The same of every budget, at least one of which gates: a wreck never passes."""
    first, *rest = budgets or (Budget("drop", 0.0, "pt"),)
    if not any(b.mode == "gate" for b in budgets):
        first = dataclasses.replace(first, mode="gate")
    return tuple(Cell(b, outcome, reason) for b in (first, *rest))


def _with(cell: Cell, more: str) -> Cell:
    told = "; ".join(t for t in (cell.reason, more) if t)
    return dataclasses.replace(cell, reason=told)
