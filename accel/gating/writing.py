"""The files of a gate, and what a CI runner is told of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from accel import catalog, disk, release
from accel.errors import UsageError
from accel.evidence import EXIT_CODES, Report
from accel.gating import verdicts

RUNNERS = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")  # variables that name files of its runner
VERDICT = "verdict.json"
FILES = {  # file -> the member of report/ that writes it
    VERDICT: "verdict_json",
    "junit.xml": "junit",
    "summary.md": "gate_summary",
    "metrics.txt": "openmetrics",
    "bench.json": "bench_json",
}


def write(report: Report, folder: Path) -> tuple[Path, ...]:
    """Every file of FILES, each whole or not at all; those of an earlier gate are replaced.

    Raises EnvironmentProblem or UsageError when the folder cannot be written."""
    texts = {name: catalog.load("report", kind).text(report) for name, kind in FILES.items()}
    with disk.guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            disk.write(folder / name, text)
    return tuple(folder / name for name in texts)


def claim(folder: Path) -> None:
    """Raise what `write` would raise at the gate's end, before minutes are spent, then remove an
    earlier gate's files: one that ends with an error must not leave another's verdict.

    Raises UsageError where a file of that name is not a gate's, or the folder lies in a release,
    and EnvironmentProblem where nothing can be written."""
    with disk.guarded(folder, "--out"):
        _refuse_strangers(folder)
        disk.probe(folder)
        for name in reversed(FILES):  # verdict.json, by which they are known, is the last to go
            (folder / name).unlink(missing_ok=True)


def _refuse_strangers(folder: Path) -> None:
    """Only what a gate wrote may be removed, and to a release nothing may be added."""
    release.outside(folder, "--out")
    there = [folder / name for name in FILES if os.path.lexists(folder / name)]
    strange = [p for p in there if p.is_dir() or not verdicts.is_verdict(folder / VERDICT)]
    if strange:
        raise UsageError(
            f"{strange[0]} is not a gate's: no {VERDICT} of one stands beside it. It is left as it "
            f"is. Choose another folder with --out, or move it away."
        )


def claim_runners(environ: Mapping[str, str]) -> None:
    """Raise what `publish` would raise, before minutes are spent."""
    for variable in RUNNERS:
        if path := environ.get(variable):
            with disk.guarded(Path(path), variable):
                _append(Path(path), "")


def publish(report: Report, environ: Mapping[str, str]) -> list[str]:
    """Tell GitHub's runner, where there is one: step summary, step outputs, and lines to print.

    Appends to the files that RUNNERS name, outputs first: later steps go by them, and a summary that
    cannot be written takes nothing from them. Elsewhere it does nothing.
    Raises EnvironmentProblem or UsageError when one cannot be written."""
    for variable, told in zip(RUNNERS, (_outputs, _summary), strict=True):
        if path := environ.get(variable):
            with disk.guarded(Path(path), variable):
                _append(Path(path), told(report, Path(path)))
    if environ.get("GITHUB_ACTIONS") != "true":
        return []
    return list(catalog.load("report", "annotations").commands([report]))


def _summary(report: Report, path: Path) -> str:
    """Beside what the step has written already: all of it together has the limit."""
    summary = catalog.load("report", "gate_summary")
    there = path.stat().st_size if path.exists() else 0
    text: str = summary.text(report, max(0, summary.LIMIT_BYTES - there))
    return "\n\n" + text if there else text


def _outputs(report: Report, _: Path) -> str:
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
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)
