"""One gate of one test: from a test's words to the gate, and from its report to pass, fail or warn.

`accel.pytest_plugin` opens this file when a test gates something, and not before.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from accel.errors import AccelError, UsageError
from accel.evidence import Report, Rules
from accel.gating import budgets, settings
from accel.pytest_plugin import NOT_SLOWER, PREFIX, AccelGateWarning, told
from accel.report import gate_line
from accel.steps.gate import gate

OTHERS = ("workload", "reference", "engine", "data", "config")  # that the gate takes as they are
RULES = tuple(field.name for field in dataclasses.fields(Rules))


def measure(
    item: pytest.Item,
    candidate: Any,
    baseline: Any,
    budget: Any,
    name: str | None,
    more: Mapping[str, Any],
) -> Report:
    """Runs the gate and leaves what it said on the test; fails the test where it could not run."""
    __tracebackhide__ = True
    option, root = item.config.getoption, item.config.rootpath
    try:
        report = gate(
            place(candidate),
            place(baseline),
            name=name,
            budgets=budgets.asked(budget),
            rules=rules(more, option("accel_gate_epochs")),
            work=option("accel_gate_work") or root / ".accel",
            out=folder(item, option("accel_gate_out")),
            **{"config": settings_of(root), **others(more)},
        )
    except (AccelError, OSError) as error:
        trouble = str(error)
    else:
        _record(item, report.name, _properties(report))
        return report
    line = " ".join(f"NOT RUN: {trouble}".split())
    _record(item, name or "gate", {"verdict": "not run", "line": line})
    pytest.fail(f"{NOT_SLOWER['not run']}\n{trouble}", pytrace=False)


def judge(report: Report, on_inconclusive: str) -> None:
    """Fails or warns as the outcome asks."""
    __tracebackhide__ = True
    unsure = report.outcome == "cannot tell"
    if report.outcome in NOT_SLOWER:
        said = [NOT_SLOWER[report.outcome], *gate_line.lines(report)]
        pytest.fail("\n".join(said), pytrace=False)
    if report.outcome == "fail" or (unsure and on_inconclusive == "fail"):
        pytest.fail("\n".join(gate_line.lines(report)), pytrace=False)
    if unsure and on_inconclusive == "warn":
        warnings.warn(AccelGateWarning(report.line), stacklevel=3)  # the test's own line


def place(thing: Any) -> Path:
    """Of a path, or of a value that has one: a Release, a Model, a Plan.

    Raises UsageError for anything else."""
    try:
        return Path(getattr(thing, "path", thing))
    except TypeError:
        raise UsageError(
            f"accel_gate got {type(thing).__name__} ({thing!r:.80}). It takes a release, an .onnx, "
            f"or the path of one."
        ) from None


def others(more: Mapping[str, Any]) -> dict[str, Any]:
    """Words of the gate's own, the last release by its path.

    Raises UsageError for a last release that has none."""
    given = {k: v for k, v in more.items() if k in OTHERS}
    last = given.get("reference")
    return given if last is None else {**given, "reference": place(last)}


def rules(more: Mapping[str, Any], max_epochs: int | None) -> dict[str, Any]:
    """What changes of accel.toml's: the test's words, and before them the command line's.

    Raises UsageError for a word that is no rule."""
    if unknown := sorted(set(more) - {*RULES, *OTHERS}):
        raise UsageError(
            f"accel_gate does not know {', '.join(unknown)}. It takes candidate, baseline, budget, "
            f"name, {', '.join((*OTHERS, *RULES))}."
        )
    given = {k: v for k, v in more.items() if k in RULES}
    return {**given, **({"max_epochs": max_epochs} if max_epochs else {})}


def settings_of(root: Path) -> Path | None:
    """The project's accel.toml, from whichever folder pytest was called."""
    file = root / settings.FILE
    return file if file.is_file() else None


def folder(item: pytest.Item, out: Path | None) -> Path | None:
    """A test's own folder below `out`; a second gate of one test has a second folder."""
    if out is None:
        return None
    words = re.sub(r"[^\w.]+", "-", item.nodeid, flags=re.ASCII)[-100:].strip("-.")
    made = f"{words}-{hashlib.sha256(item.nodeid.encode()).hexdigest()[:8]}"  # two never meet
    before = sum(name.endswith(".verdict") for name, _ in told(item))
    return out / (f"{made}-{before + 1}" if before else made)


def _properties(report: Report) -> dict[str, str]:
    cells = [cell for cell in report.judgement.cells if cell.ratio is not None]
    cells.sort(key=lambda cell: (cell.budget.mode != "gate", cell.budget.metric != "p50"))
    ratio = {"ratio": f"{cells[0].ratio:.6g}"} if cells else {}
    head = {"evidence_head": report.evidence_head} if report.evidence_head else {}
    return {"verdict": report.outcome, "line": report.line, **ratio, **head}


def _record(item: pytest.Item, name: str, properties: Mapping[str, str]) -> None:
    # what record_property does, without its warning where junit_family is xunit2
    item.user_properties.extend((f"{PREFIX}{name}.{k}", v) for k, v in properties.items())
