"""summary.md of a gate, for $GITHUB_STEP_SUMMARY and for a reviewer.

GitHub takes 1 MiB from a step and drops the whole summary beyond it ("Step isolation and limits",
https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands).
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from accel.evidence import Epoch, Report, Subject
from accel.report import _words as words
from accel.report import gate_line

LIMIT_BYTES = 900_000  # the rest is for what else a step writes
LEFT_OUT = "{count} lines were left out here ({limit} kB at most): verdict.json has all of it.\n"
# what begins markup in GitHub's Markdown inside a line, at its start, or ends the text of a link;
# a figure in brackets stays as it is
MARKUP = re.compile(r"[\\`*_|~@$]|^[-+#\[]|\](?=[\[(])|(?<=:)/(?=/)")


def text(report: Report, limit_bytes: int = LIMIT_BYTES) -> str:
    """First line, cells, what changed, epochs; the last lines go first where it grows too long."""
    lines = [f"## {escape(words.first(report))}", "", *_again(report), *_cells(report)]
    lines += _listed("Why", gate_line.reasons(report, every=True))
    lines += _listed("What changed", report.changes)
    lines += _listed("Notes", report.notes)
    return _cut([*lines, *_facts(report), *_epochs(report.epochs)], limit_bytes)


def escape(plain: str) -> str:
    """Any text as Markdown that shows just that text, on one line."""
    return MARKUP.sub(r"\\\g<0>", html.escape(words.clean(plain), quote=False))


def _cut(lines: Sequence[str], limit_bytes: int) -> str:
    sizes = [len(line.encode()) + 1 for line in lines]
    if sum(sizes) <= limit_bytes:
        return "\n".join(lines) + "\n"
    note = LEFT_OUT.format(count=len(lines), limit=limit_bytes // 1000)
    room, kept = limit_bytes - len(note.encode()) - 1, 0
    while kept < len(lines) and sizes[kept] <= room:
        room -= sizes[kept]
        kept += 1
    note = LEFT_OUT.format(count=len(lines) - kept, limit=limit_bytes // 1000)
    return "\n".join([*lines[:kept], "", note]) if limit_bytes >= len(note.encode()) + 1 else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([escape(x) for x in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def _cells(report: Report) -> list[str]:
    cells = report.judgement.cells
    return _table(gate_line.HEAD, gate_line.rows(cells)) if cells else []


def _listed(title: str, items: Sequence[str]) -> list[str]:
    return [f"### {title}", "", *(f"- {escape(item)}" for item in items), ""] if items else []


def _again(report: Report) -> list[str]:
    """The command in a fence that is longer than any run of backticks in it."""
    if not report.command:
        return []
    command = words.clean(report.command, 4000)
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", command))])
    return [f"{fence}sh", command, fence, ""]


def _facts(report: Report) -> list[str]:
    fitness = report.judgement.fitness
    position = words.known(fitness.position)
    facts = [
        ("epochs", f"{len(report.epochs)}, {report.new_epochs} of this run"),
        ("seconds of this run", f"{report.seconds:.0f}"),
        ("instrument", "; ".join((words.shadow(fitness), *fitness.reasons))),
        ("started second", "" if position is None else f"{100 * position:+.1f} %"),
        ("candidate", _subject(report.candidate)),
        ("baseline", _subject(report.baseline)),
        ("last release", _subject(report.reference)),
        ("machine class", report.machine_class),
        ("commit", report.commit),
        ("when", report.when),
        ("evidence head", report.evidence_head),
    ]
    return _table(("fact", "value"), [fact for fact in facts if fact[1]])


def _subject(subject: Subject | None) -> str:
    if subject is None:
        return ""
    trouble = f"; {subject.trouble}" if subject.trouble else ""
    return f"{subject.name} {subject.digest[:16]}, {subject.size_bytes / 1e6:.1f} MB{trouble}"


def _epochs(epochs: Sequence[Epoch]) -> list[str]:
    """Each epoch's differences to the baseline, in percent of ln ratio."""
    if not epochs:
        return []
    keys = list(dict.fromkeys((a, s) for e in epochs for a, logs in e.logs.items() for s in logs))
    head = ["epoch", *(escape(f"{arm} {statistic} %") for arm, statistic in keys), "s"]
    return ["### Epochs", "", *_table(head, [_epoch(e, keys) for e in epochs])]


def _epoch(epoch: Epoch, keys: Sequence[tuple[str, str]]) -> list[str]:
    logs = [words.known(epoch.logs.get(arm, {}).get(statistic)) for arm, statistic in keys]
    shown = ["" if x is None else f"{100 * x:+.2f}" for x in logs]
    return [str(epoch.number), *shown, f"{epoch.seconds:.1f}"]
