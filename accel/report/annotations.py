"""GitHub's annotations: one workflow command a gate, printed to the log of the step.

Syntax: "Workflow commands for GitHub Actions",
https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands. Escapes: those
that the runner takes back, actions/runner, src/Runner.Common/ActionCommand.cs. A step shows 10
errors and 10 warnings (REST reference, "Check runs"), so that the eleventh is counted, not lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from accel.evidence import Report
from accel.report import _words as words

MOST = 10  # of one kind
KIND = {"pass": "notice", "cannot tell": "warning"}  # and "error"


def text(report: Report) -> str:
    """The command of one gate: an error unless it passed or cannot tell."""
    return "\n".join(commands([report]))


def commands(reports: Sequence[Report]) -> list[str]:
    """A command a gate, at most ten of a kind; the tenth says how many more there are."""
    found = []
    for kind in ("error", "warning", "notice"):
        alike = [report for report in reports if KIND.get(report.outcome, "error") == kind]
        shown = alike if len(alike) <= MOST else alike[: MOST - 1]
        found += [_command(kind, f"accel gate {words.clean(r.name)}", _message(r)) for r in shown]
        if len(shown) < len(alike):
            more = f"{len(alike) - len(shown)} more gates, in the summary: "
            names = ", ".join(words.clean(r.name, 80) for r in alike[len(shown) :])
            found.append(_command(kind, "accel gate", more + words.clean(names)))
    return found


def _message(report: Report) -> str:
    again = f"again: {words.clean(report.command, 4000)}"
    return "\n".join([words.first(report), *([again] if report.command else [])])


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_property(title)}::{_data(message)}"


def _data(plain: str) -> str:
    return plain.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(plain: str) -> str:
    return _data(plain).replace(":", "%3A").replace(",", "%2C")
