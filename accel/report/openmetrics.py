"""metrics.txt: OpenMetrics 1.0 text, for Prometheus and GitLab's metrics report.

https://prometheus.io/docs/specs/om/open_metrics_spec/: a unit ends the family's name and stands in
a UNIT line ("Unit"); a state set has one sample a state, labelled with the family's own name
("StateSet"); families are not interleaved ("MetricFamily"). Figures that are not known have no
sample: NaN is not a missing value ("Values").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from accel.evidence import CANDIDATE, EXIT_CODES, SCORED, Cell, Report
from accel.report import _words as words
from accel.version import VERSION

Labels = Mapping[str, str]
Samples = tuple[tuple[Labels, float | None], ...]
UNITS = {
    "p50": "seconds", "p99": "seconds", "throughput": "seconds", "cold_start": "seconds",
    "peak_memory": "bytes", "size": "bytes",
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """One metric family and its samples: labels and value."""

    name: str
    kind: str
    unit: str  # empty: none
    help: str
    samples: Samples


def text(report: Report) -> str:
    """The exposition, `# EOF` at its end."""
    lines = [line for family in families(report) for line in _lines(family)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def families(report: Report) -> tuple[Family, ...]:
    """All that has at least one sample, in the order in which it is read."""
    found = [*_whole(report), *_of_cells(report), *_values(report)]
    return tuple(f for f in found if any(words.known(value) is not None for _, value in f.samples))


def _whole(report: Report) -> Iterator[Family]:
    gate = {"gate": words.clean(report.name)}
    facts = {
        "candidate": words.clean(report.candidate.digest),
        "baseline": words.clean(report.baseline.digest),
        "machine_class": words.clean(report.machine_class),
        "commit": words.clean(report.commit),
        "version": VERSION,
    }
    fitness = report.judgement.fitness
    yield Family("accel_gate", "info", "", "What was gated.", (({**gate, **facts}, 1),))
    yield _states("accel_gate_outcome", "How the gate ended.", [(gate, report.outcome)])
    yield _gauge("epochs", "", "Epochs in the evidence.", gate, len(report.epochs))
    yield _gauge("duration_seconds", "seconds", "Wall clock of this run.", gate, report.seconds)
    yield _gauge("fit", "", "1: the instrument is fit.", gate, int(fitness.fit))
    told = "The baseline again over the baseline, p50."
    yield _gauge("shadow_ratio", "ratio", told, gate, fitness.shadow_ratio)


def _gauge(name: str, unit: str, told: str, labels: Labels, value: float | None) -> Family:
    return Family(f"accel_gate_{name}", "gauge", unit, told, ((labels, value),))


def _states(name: str, told: str, states: Sequence[tuple[Labels, str]]) -> Family:
    samples = [
        ({**labels, name: state}, int(state == outcome))
        for labels, outcome in states
        for state in EXIT_CODES
    ]
    return Family(name, "stateset", "", told, tuple(samples))


def _of_cells(report: Report) -> Iterator[Family]:
    """Outcomes of all cells, then metric by metric what was seen and what is allowed."""
    cells = _labelled(report)
    outcomes = [({**labels, "mode": cell.budget.mode}, cell.outcome) for labels, cell in cells]
    yield _states("accel_gate_cell_outcome", "How each budget ended.", outcomes)
    figures = {
        "detectable": "Would FAIL in 80 % of runs.",
        "sigma": "Robust deviation of an epoch.",
    }
    for name, told in figures.items():
        samples = tuple((labels, getattr(cell, name)) for labels, cell in cells)
        yield Family(f"accel_gate_{name}_ratio", "gauge", "ratio", told, samples)
    for metric, unit in dict.fromkeys((c.budget.metric, _unit(c)) for _, c in cells):
        alike = [(la, c) for la, c in cells if (c.budget.metric, _unit(c)) == (metric, unit)]
        yield from _metric(metric, unit, alike)


def _labelled(report: Report) -> list[tuple[Labels, Cell]]:
    gate, cells = words.clean(report.name), report.judgement.cells
    named = zip(words.names(cells), cells, strict=True)
    return [({"gate": gate, "cell": name}, cell) for name, cell in named]


def _unit(cell: Cell) -> str:
    if words.counted(cell):
        return ""
    return "points" if cell.budget.unit == "pt" else "ratio"


def _metric(metric: str, unit: str, cells: Sequence[tuple[Labels, Cell]]) -> Iterator[Family]:
    """Ratios are candidate over baseline, more is worse; a budget is 1 + what is allowed."""
    kinds = {
        "": (_told(metric, unit), _seen),
        "_low": ("Lower end of the 95 % confidence sequence.", lambda c: c.low),
        "_high": ("Its upper end.", lambda c: c.high),
        "_budget": ("The most that is allowed.", lambda c: _start(c) + c.budget.limit),
    }
    for part, (told, of) in kinds.items():
        ending = f"_{unit}" if unit else "_more"
        samples = tuple((labels, of(cell)) for labels, cell in cells)
        yield Family(f"accel_gate_{metric}{part}{ending}", "gauge", unit, told, samples)


def _told(metric: str, unit: str) -> str:
    """What the number is of, and which way is worse: a drop is a share too, and starts at 0."""
    if unit == "ratio" and metric not in SCORED:
        return f"{_of(metric)}, candidate over baseline: above 1 is worse."
    return f"{_of(metric)}, candidate against baseline: above 0 is worse."


def _of(metric: str) -> str:
    return "Time of an inference" if metric == "throughput" else metric


def _start(cell: Cell) -> float:
    return 0.0 if words.scored(cell) or words.counted(cell) else 1.0


def _seen(cell: Cell) -> float | None:
    seen = words.amount(cell)
    return None if seen is None else _start(cell) + seen


def _values(report: Report) -> Iterator[Family]:
    """Both arms' own values: p50 in seconds, memory in bytes, counts."""
    cells = _labelled(report)
    for metric in dict.fromkeys(cell.budget.metric for _, cell in cells):
        unit = UNITS.get(metric, "")
        name = f"accel_gate_{metric}_{unit}" if unit else f"accel_gate_{metric}_value"
        samples = tuple(
            ({**labels, "arm": arm}, value)
            for labels, cell in cells
            if cell.budget.metric == metric
            for arm, value in ((CANDIDATE, cell.value), (cell.budget.arm, cell.baseline))
        )
        yield Family(name, "gauge", unit, f"{_of(metric)}, of each arm.", samples)


def _lines(family: Family) -> Iterator[str]:
    yield f"# TYPE {family.name} {family.kind}"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {_escape(family.help)}"
    suffix = "_info" if family.kind == "info" else ""
    for labels, value in family.samples:
        figure = words.known(value)
        if figure is not None:
            shown = ",".join(f'{key}="{_escape(seen)}"' for key, seen in labels.items() if seen)
            yield f"{family.name}{suffix}{{{shown}}} {float(figure)!r}"


def _escape(plain: str) -> str:
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
