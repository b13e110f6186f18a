"""verdict.json: all that a gate found, for programs; verdict.schema.json beside this file is strict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accel import manifest, store
from accel.evidence import EXIT_CODES, Cell, Report, Subject
from accel.report import _words as words
from accel.version import VERSION

SCHEMA = Path(__file__).with_name("verdict.schema.json")


def text(report: Report) -> str:
    """The document, JSON Schema 2020-12: `SCHEMA`. A number that is not finite is null."""
    return manifest.document("verdict", data(report)) + "\n"


def data(report: Report) -> dict[str, Any]:
    """What stands under "data". Every epoch's logs are there: any figure can be computed again."""
    judgement = report.judgement
    return {
        "tool": {"name": "accel", "version": VERSION},
        "name": report.name,
        "outcome": report.outcome,
        "exit_code": EXIT_CODES[report.outcome],
        "line": report.line,
        "reasons": judgement.reasons,
        "done": judgement.done,
        "cells": _cells(judgement.cells),
        "fitness": judgement.fitness,
        "rules": report.rules,
        "config_digest": config_digest(report),
        "candidate": _subject(report.candidate),
        "baseline": _subject(report.baseline),
        "reference": None if report.reference is None else _subject(report.reference),
        "epochs": report.epochs,
        "new_epochs": report.new_epochs,
        "seconds": report.seconds,
        "evidence": {
            "folder": report.evidence,
            "epochs": len(report.epochs),
            "head": report.evidence_head,
        },
        "machine": report.machine,
        "machine_class": report.machine_class,
        "versions": report.versions,
        "changes": report.changes,
        "notes": report.notes,
        "command": report.command,
        "commit": report.commit,
        "when": report.when,
    }


def config_digest(report: Report) -> str:
    """sha256 of rules and budgets: two gates with the same one asked the same question."""
    budgets = [cell.budget for cell in report.judgement.cells]
    return store.digest_json({"rules": report.rules, "budgets": budgets})


def _cells(cells: tuple[Cell, ...]) -> list[dict[str, Any]]:
    named = zip(words.names(cells), cells, strict=True)
    return [{"cell": name, **manifest.dump(cell)} for name, cell in named]


def _subject(subject: Subject) -> dict[str, Any]:
    """Without the requests' arrays, and of the plan what it depends on."""
    plan = subject.plan
    return {
        "name": subject.name,
        "path": subject.path,
        "digest": subject.digest,
        "size_bytes": subject.size_bytes,
        "trouble": subject.trouble,
        "engine": plan.engine if plan else None,
        "options": plan.options if plan else {},
        "versions": plan.versions if plan else {},
    }
