"""What a gate says to a person: one first line, then a line a cell."""

from __future__ import annotations

from collections.abc import Sequence

from accel.evidence import Cell, Judgement, Report
from accel.report import _words as words

HEAD = ("cell", "outcome", "seen", "budget", "n", "baseline", "candidate", "can detect")


def line(name: str, judgement: Judgement) -> str:
    """The one line that a person understands; the worst cell speaks for the whole.

    "FAIL minilm p50: 5.2 % slower [3.6, 6.9], budget 3 %, n=14, could detect 4.4 %, A/A ok (0.1 %)"
    """
    head = f"{judgement.outcome.upper()} {words.clean(name)}"
    index = words.deciding(judgement)
    if index is None:
        return f"{head}: {words.why(judgement) or 'nothing was gated'}"
    cell = judgement.cells[index]
    plain = judgement.outcome in ("pass", "fail") or not cell.reason
    parts = [words.told(cell) if plain else words.clean(cell.reason)]
    parts += [words.shadow(judgement.fitness)] if cell.epochs and not words.scored(cell) else []
    which = words.names(judgement.cells)[index]
    return f"{head} {which}: {', '.join(parts)}{_others(judgement)}"


def _others(judgement: Judgement) -> str:
    """How many further cells are as the one that speaks."""
    gating = [c for c in judgement.cells if c.budget.mode == "gate"]
    alike = sum(c.outcome == judgement.outcome for c in gating) - 1
    return f" (and {alike} more of {len(gating)} cells)" if alike > 0 else ""


def lines(report: Report) -> list[str]:
    """The whole of it on a terminal: first line, cells, what changed, how to run it again."""
    cells = report.judgement.cells
    found = [words.first(report), *(["", *_table(cells)] if cells else [])]
    found += _listed("why", reasons(report, every=False))
    found += _listed("what changed", report.changes)
    found += _listed("notes", report.notes)
    return [*found, "", *_ending(report)]


def text(report: Report) -> str:
    """The lines as one text."""
    return "\n".join(lines(report)) + "\n"


def row(cell: Cell, name: str) -> tuple[str, ...]:
    """A cell in the columns of HEAD."""
    share = words.known(cell.detectable)
    return (
        name,
        f"{cell.outcome}, {cell.label}" if cell.label else cell.outcome,
        words.difference(cell),
        words.limit(cell.budget) + (" watch" if cell.budget.mode == "watch" else ""),
        str(cell.epochs) if words.sample(cell) else "",
        words.value(cell, cell.baseline),
        words.value(cell, cell.value),
        "" if share is None else f"{100 * share:.1f} %",
    )


def rows(cells: tuple[Cell, ...]) -> list[tuple[str, ...]]:
    """Every cell in the columns of HEAD, in the order of the budgets."""
    return [row(cell, name) for cell, name in zip(cells, words.names(cells), strict=True)]


def _table(cells: tuple[Cell, ...]) -> list[str]:
    table = [HEAD, *rows(cells)]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    return [
        "  ".join(x.ljust(w) for x, w in zip(line, widths, strict=True)).rstrip() for line in table
    ]


def reasons(report: Report, every: bool) -> list[str]:
    """Why, a line a reason: the whole's own first, then those of the cells.

    `every`: of cells that passed, too. A reason that a cell gives stands only there."""
    cells = report.judgement.cells
    told = [
        f"{name} {cell.outcome}: {words.whole(cell)}"
        for name, cell in zip(words.names(cells), cells, strict=True)
        if cell.reason and (every or cell.outcome != "pass")
    ]
    given = tuple(cell.reason for cell in cells if cell.reason)
    whole = [words.clean(r) for r in report.judgement.reasons if not r.endswith(given)]
    return whole + told


def _listed(title: str, items: Sequence[str]) -> list[str]:
    # the dash: a line that begins with "::" is a command to GitHub's runner
    return ["", f"{title}:", *(f"- {words.clean(item)}" for item in items)] if items else []


def _ending(report: Report) -> list[str]:
    epochs = f"{len(report.epochs)} epochs ({report.new_epochs} new), {report.seconds:.0f} s"
    place = words.clean(str(report.evidence)) if report.evidence else "not kept"
    head = f", head {words.clean(report.evidence_head)[:16]}" if report.evidence_head else ""
    again = [f"again: {words.clean(report.command, 4000)}"] if report.command else []
    return [f"{epochs}; evidence: {place}{head}", *again]
