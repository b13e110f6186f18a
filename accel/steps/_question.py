"""What a gate is asked: paths, budgets and rules, from the call, accel.toml and a baselines file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.errors import UsageError
from accel.evidence import REFERENCE, Budget, Rules
from accel.gating import baselines, settings
from accel.gating import budgets as limits


@dataclass(frozen=True)
class Question:
    """Everything that is known before anything is read or run."""

    name: str
    candidate: Path
    baseline: Path
    reference: Path | None
    workload: str | None
    budgets: tuple[Budget, ...]
    rules: Rules


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
    told = name or (entry.name if entry else Path(candidate).stem)
    file = config or (Path(settings.FILE) if Path(settings.FILE).is_file() else None)
    if entry is not None:
        workload = workload or baselines.workload(entry)
        reference = reference or baselines.resolve_reference(entry)
    return Question(
        name=told,
        candidate=Path(candidate),
        baseline=baselines.resolve(entry) if entry else Path(baseline),
        reference=Path(reference) if reference else None,
        workload=workload,
        budgets=_budgets(budgets, entry, told, file, workload, bool(reference)),
        rules=_rules(rules, file, told),
    )


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
    reference: bool,
) -> tuple[Budget, ...]:
    if given is not None:
        chosen = tuple(given)
    else:
        chosen = limits.load(file, name, scored=workload is not None)
        if entry is not None:
            chosen = limits.merged(chosen, map(limits.parse, entry.budgets))
    cumulative = [b for b in chosen if b.arm == REFERENCE]
    if not cumulative or reference:
        return chosen
    if given is not None:
        raise UsageError(
            f"{limits.text(cumulative[0])} is a budget against the last release, and none is given. "
            f"Add --reference RELEASE."
        )
    return tuple(b for b in chosen if b.arm != REFERENCE)  # the baseline is the last release
