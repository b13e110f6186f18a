"""What a gate is asked: paths, budgets and rules, from the call, accel.toml and a baselines file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accel import sources
from accel.errors import NoBaseline, UsageError
from accel.evidence import REFERENCE, Budget, Rules
from accel.gating import baselines, settings
from accel.gating import budgets as limits


@dataclass(frozen=True)
class Question:
    """Everything that is known before anything is read or run. Paths are absolute: the workload's code
    may change the folder."""

    name: str
    candidate: Path
    baseline: Path
    reference: Path | None
    workload: str | None
    budgets: tuple[Budget, ...]
    rules: Rules
    notes: tuple[str, ...] = ()  # what of it was left aside
    own: tuple[Budget, ...] = ()  # of the budgets, those that nobody wrote: accel's own
    folder: Path = field(default_factory=Path.cwd)  # where the command was typed


def question(
    candidate: str | Path,
    baseline: str | Path,
    name: str | None,
    reference: str | Path | None,
    workload: str | None,
    budgets: Sequence[Budget] | None,
    rules: Rules | Mapping[str, Any] | None,
    config: Path | None,
) -> Question:
    """What is not given comes from the baselines file, where `baseline` is one, then from accel.toml.

    Raises NoBaseline where a baselines file leads to none, UsageError for what cannot be meant."""
    entry = baselines.named(baseline, name) if Path(baseline).suffix == ".json" else None
    if entry is None and not Path(baseline).exists():
        raise NoBaseline(
            f"{baseline} does not exist: nothing to compare with. Make one with: accel optimize"
        )
    told = name or (entry.name if entry else called(candidate))
    file = config or (Path(settings.FILE) if Path(settings.FILE).is_file() else None)
    if entry is not None:
        workload = workload or baselines.workload(entry)
    chosen = _budgets(budgets, entry, told, file, workload)
    lost: tuple[str, ...] = ()
    if entry is not None and reference is None:
        reference, lost = _last(entry, any(b.arm == REFERENCE for b in chosen))
    left = () if reference else tuple(b for b in chosen if b.arm == REFERENCE)
    if left and budgets is not None:
        raise UsageError(
            f"{limits.text(left[0])} is a budget against the last release, and there is none. Add "
            f"--reference RELEASE."
        )
    return Question(
        name=told,
        candidate=Path(candidate).absolute(),
        baseline=(baselines.resolve(entry) if entry else Path(baseline)).absolute(),
        reference=Path(reference).absolute() if reference else None,
        workload=None if workload is None else _absolute(workload),
        budgets=tuple(b for b in chosen if b not in left),
        rules=_rules(rules, file, told),
        notes=(
            *lost,
            *settings.unmatched(file, told),
            *(f"{limits.text(b)} is not gated: there is no last release" for b in left),
        ),
        own=() if budgets is not None else limits.own(file, told, entry.budgets if entry else ()),
    )


def _absolute(workload: str) -> str:
    """The file, and behind it the object, if one is named."""
    file, name = sources.parted(workload)
    place = str(Path(file).absolute())
    return f"{place}:{name}" if name else place


def _last(entry: baselines.Baseline, budgeted: bool) -> tuple[Path | None, tuple[str, ...]]:
    """The last release, for budgets against it and for the history, and what is to be noted."""
    try:
        return baselines.resolve_reference(entry), ()
    except NoBaseline as error:
        if budgeted:
            raise
        return None, (f"the last release is not timed beside these: {error}",)


def called(candidate: str | Path) -> str:
    """The name of a gate that was given none."""
    return Path(candidate).absolute().name.removesuffix(".onnx")


def _rules(given: Rules | Mapping[str, Any] | None, file: Path | None, name: str) -> Rules:
    if isinstance(given, Rules):
        return given
    return settings.changed(settings.rules(file, name), given or {})


def _budgets(
    given: Sequence[Budget] | None,
    entry: baselines.Baseline | None,
    name: str,
    file: Path | None,
    workload: str | None,
) -> tuple[Budget, ...]:
    if given is not None:
        return tuple(given)
    chosen = limits.load(file, name, scored=workload is not None)
    return limits.merged(chosen, map(limits.parse, entry.budgets)) if entry else chosen
