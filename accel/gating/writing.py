"""The files of a gate, and what a CI runner is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from accel import catalog, store
from accel.evidence import EXIT_CODES, Report

FILES = {  # file -> the member of report/ that writes it
    "verdict.json": "verdict_json",
    "junit.xml": "junit",
    "summary.md": "gate_summary",
    "metrics.txt": "openmetrics",
    "bench.json": "bench_json",
}


def write(report: Report, folder: Path) -> tuple[Path, ...]:
    """Every file of FILES, each whole or not at all; those of an earlier gate are replaced.

    Raises EnvironmentProblem or UsageError when the folder cannot be written."""
    texts = {name: catalog.load("report", kind).text(report) for name, kind in FILES.items()}
    with store.disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            store.write(folder / name, text)
    return tuple(folder / name for name in texts)


def clear(folder: Path) -> None:
    """Remove an earlier gate's files: one that ends with an error must not leave another's verdict.

    Raises as `write` does."""
    with store.disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)


def publish(report: Report, environ: Mapping[str, str]) -> list[str]:
    """Tell GitHub's runner, where there is one: step summary, step outputs, and lines to print.

    Appends to the files that GITHUB_STEP_SUMMARY and GITHUB_OUTPUT name; elsewhere it does nothing.
    Raises EnvironmentProblem or UsageError when one cannot be written."""
    if path := environ.get("GITHUB_STEP_SUMMARY"):
        _append_summary(report, Path(path))
    if path := environ.get("GITHUB_OUTPUT"):
        _append(Path(path), _outputs(report))
    if environ.get("GITHUB_ACTIONS") != "true":
        return []
    return list(catalog.load("report", "annotations").commands([report]))


def _append_summary(report: Report, path: Path) -> None:
    """Beside what the step has written already: all of it together has the limit."""
    summary = catalog.load("report", "gate_summary")
    with store.disk(path):
        there = path.stat().st_size if path.exists() else 0
    apart = "\n\n" if there else ""
    _append(path, apart + summary.text(report, max(0, summary.LIMIT_BYTES - there)))


def _outputs(report: Report) -> str:
    """name=value lines; a value is on one line, so that none can add an output of its own."""
    line = catalog.load("report", "gate_line").lines(report)[0]
    outcome = report.outcome
    values = {
        "outcome": outcome,
        "verdict": outcome,
        "exit-code": str(EXIT_CODES[outcome]),
        "line": line,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _append(path: Path, text: str) -> None:
    with store.disk(path), path.open("a", encoding="utf-8") as stream:
        stream.write(text)
