"""How the files of a gate name cells, differences and budgets: one wording, safe on one line."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence

from accel.evidence import BASELINE, EXACT, TIMED, Budget, Cell, Fitness, Judgement, Report

LONGEST = 400  # characters of a name or a reason; verdict.json has them whole
WORDS = {  # metric -> what more of it is, what less
    "p50": ("slower", "faster"),
    "p99": ("slower", "faster"),
    "throughput": ("slower", "faster"),  # the ratio is of the time that an inference takes
    "cold_start": ("slower", "faster"),
    "peak_memory": ("more", "less"),
    "size": ("larger", "smaller"),
    "drop": ("worse", "better"),
    "flips": ("flipped", "flipped"),
}
HIDDEN = ("Cc", "Cf", "Zl", "Zp")  # control and format characters: escapes, direction marks
NO_XML = "\ufffe\uffff"  # what XML 1.0 refuses besides (Char)


def clean(text: str, longest: int = LONGEST) -> str:
    """Any text as one line of printable characters, that no terminal and no runner acts upon.

    GitHub's runner reads "##[" anywhere in a line as a command (actions/runner,
    src/Runner.Common/ActionCommand.cs). Lone surrogates, of file names that are not UTF-8, have no
    encoding."""
    seen = text[: 4 * longest]
    shown = (" " if c in NO_XML or unicodedata.category(c) in HIDDEN else c for c in seen)
    line = " ".join("".join(shown).split()).replace("##[", "## [")
    line = line.encode(errors="replace").decode()
    return line if len(line) <= longest else line[: longest - 3] + "..."


def known(value: float | None) -> float | None:
    """The number, or None where there is none: NaN and infinity are not figures to print."""
    return value if value is not None and math.isfinite(value) else None


def names(cells: Sequence[Cell]) -> tuple[str, ...]:
    """The cells' names, each another one: consumers keep one entry a name."""
    plain = [name(cell.budget) for cell in cells]
    seen: Counter[str] = Counter()
    found = []
    for each in plain:
        seen[each] += 1
        found.append(each if seen[each] == 1 else f"{each} ({seen[each]})")
    return tuple(found)


def name(budget: Budget) -> str:
    """What the budget is on: "p50", "p99/batch 8", "p50@reference/short": as budgets are written."""
    group = f"/{clean(budget.group, 80)}" if budget.group else ""
    return f"{budget.metric}{'' if budget.arm == BASELINE else '@' + budget.arm}{group}"


def limit(budget: Budget) -> str:
    """How much worse is allowed: "3 %", "0.5 pt", "2"."""
    scale = 100 if budget.unit == "%" else 1
    return f"{scale * budget.limit:.6g} {budget.unit}".rstrip()


def counted(cell: Cell) -> bool:
    """Is it a count, with a budget in counts, rather than a share or a score?"""
    return cell.budget.metric in EXACT and cell.budget.unit != "%"


def amount(cell: Cell) -> float | None:
    """How much worse than the baseline, in the unit of the budget; None: it is not known."""
    if counted(cell) or cell.ratio is None:
        value, base = known(cell.value), known(cell.baseline)
        if value is None or base is None or cell.budget.metric not in EXACT:
            return None
        if counted(cell):
            return value - base
        return value / base - 1 if base else None
    ratio = known(cell.ratio)
    return ratio if ratio is None or scored(cell) else ratio - 1


def scored(cell: Cell) -> bool:
    """Is `ratio` the drop, or the share of flips, itself?"""
    return cell.budget.metric not in (*TIMED, *EXACT)


def difference(cell: Cell) -> str:
    """What was seen, with its interval: "5.2 % slower [3.6, 6.9]", "2 more (1 -> 3)"."""
    seen = amount(cell)
    if seen is None:
        return "not measured"
    more, less = WORDS.get(cell.budget.metric, ("more", "less"))
    word = less if seen < 0 else more
    if counted(cell):
        return f"{abs(seen):.6g} {word} ({cell.baseline:.6g} -> {cell.value:.6g})"
    figure = _figure(cell, abs(seen))
    word = word if float(figure) or more == less else "difference"
    return f"{figure} {cell.budget.unit or '%'} {word}{_interval(cell)}"


def _figure(cell: Cell, value: float) -> str:
    """Percent of a ratio with one digit behind the point, of a score or in points with two."""
    digits = 2 if scored(cell) else 1
    scaled = value if cell.budget.unit == "pt" else 100 * value
    return f"{round(scaled, digits) + 0.0:.{digits}f}"  # + 0.0: there is no -0.0


def _interval(cell: Cell) -> str:
    """Positive is worse, whatever the word before it: the upper end stands against the budget."""
    low, high = known(cell.low), known(cell.high)
    if low is None and high is None:
        return ""
    start = 0.0 if scored(cell) else 1.0
    ends = ("-" if x is None else _figure(cell, x - start) for x in (low, high))
    return f" [{', '.join(ends)}]"


def sample(cell: Cell) -> str:
    """How much was looked at: "n=14", "2000 samples"; empty where nothing is sampled."""
    if cell.budget.metric in EXACT or not cell.epochs:
        return ""
    return f"{cell.epochs} samples" if scored(cell) else f"n={cell.epochs}"


def detectable(cell: Cell) -> str:
    """What this run could have detected; empty where it is not known."""
    share = known(cell.detectable)
    return "" if share is None else f"could detect {100 * share:.1f} %"


def value(cell: Cell, seen: float | None) -> str:
    """A value of the cell's metric for a reader: "11.320 ms", "214.5 MB", "3"."""
    seen = known(seen)
    if seen is None:
        return ""
    if cell.budget.metric in ("p50", "p99", "throughput", "cold_start"):
        return f"{1e3 * seen:.3f} ms"  # of a request, for the throughput
    if cell.budget.metric in ("peak_memory", "size"):
        return f"{seen / 1e6:.1f} MB"
    return f"{seen:.6g}"


def told(cell: Cell) -> str:
    """A cell in one line, without its name."""
    watch = " (watch)" if cell.budget.mode == "watch" else ""
    seen = [difference(cell), f"budget {limit(cell.budget)}{watch}", sample(cell), detectable(cell)]
    return ", ".join(part for part in seen if part)


def shadow(fitness: Fitness) -> str:
    """The baseline against itself: "A/A ok (0.1 %)", or "open" where nothing could be refuted yet."""
    ratio = known(fitness.shadow_ratio)
    if ratio is None:
        return "no A/A" if fitness.fit else "A/A NOT ok"
    seen = f"{100 * abs(ratio - 1):.1f} %"
    if fitness.fit and fitness.reasons:  # too few epochs to refute anything
        return f"A/A open ({seen}, n={fitness.shadow_epochs})"
    return f"A/A {'ok' if fitness.fit else 'NOT ok'} ({seen})"


def whole(cell: Cell) -> str:
    """A cell in all its words: its reason where it has one, else the figures."""
    reason = clean(cell.reason)
    return ", ".join(part for part in (reason, detectable(cell)) if part) if reason else told(cell)


def why(judgement: Judgement) -> str:
    """Why the whole is what it is: of several reasons the first stands above the others."""
    return clean(next(iter(judgement.reasons or judgement.fitness.reasons), ""))


def deciding(judgement: Judgement) -> int | None:
    """The index of the cell that speaks for the whole; None: no gating cell has its outcome, or the
    instrument itself is unfit.

    Of several that fail, the one that is farthest beyond its budget; else the first."""
    if judgement.outcome == "unfit" and not judgement.fitness.fit:
        return None
    found = [
        i
        for i, cell in enumerate(judgement.cells)
        if cell.budget.mode == "gate" and cell.outcome == judgement.outcome
    ]
    if judgement.outcome != "fail":
        return found[0] if found else None
    return max(found, key=lambda i: (_beyond(judgement.cells[i]), -i), default=None)


def _beyond(cell: Cell) -> float:
    seen = amount(cell)
    if seen is None:
        return 0.0
    return seen / cell.budget.limit if cell.budget.limit else math.inf


def first(report: Report) -> str:
    """The first line, with the outcome that the report ended with."""
    return clean(report.line) or f"{report.outcome.upper()} {clean(report.name)}"
