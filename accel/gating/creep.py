"""What a gate cannot see: many small steps, each within its budget. Advisory, never a gate.

Apache Otava 0.8 looks for change points in the history (E-divisive means with a t-test). It pins
numpy and scipy to versions that are not ours, so it is run as a program in an environment of its
own. Read in its source: otava/main.py (arguments, output), importer.py and test_config.py (CSV).
At its p = 0.001 noise alone gives a change point now and then: see benchmarks/gate/creep.py.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from accel import disk
from accel.errors import EnvironmentProblem, MissingExtra
from accel.gating.history import Series

PACKAGE = "apache-otava>=0.8,<0.9"
WINDOW, P_VALUE = 50, 0.001
AFTER = 4  # points on either side of a change: a step of two sigma needs as many to be seen
LEAST = 0.01  # smaller changes are not told of
TIMEOUT_S = 600.0
FIRST = datetime(2001, 1, 1, tzinfo=UTC)
# Its own settings and our interpreter's: BRANCH is set by many CI systems, and makes Otava look for a
# column of that name (otava/main.py, "env var: BRANCH").
KEPT_FROM_IT = ("BRANCH", "OTAVA_CONFIG", "PYTHONPATH", "PYTHONHOME")


@dataclass(frozen=True)
class Shift:
    """A change point of one series."""

    machine_class: str
    name: str
    metric: str
    when: str  # of the first gate after it
    commit: str
    change: float  # share: ratios after it over ratios before it, less 1; positive is worse
    now: float  # share: how much worse than the fixed artefact the gates after it are
    gates: int  # after it
    p_value: float


@dataclass(frozen=True)
class Creep:
    """What was found; `short`: series that are too short to say anything of."""

    shifts: tuple[Shift, ...]
    looked_at: int
    short: tuple[str, ...] = ()


def find(found: Sequence[Series]) -> Creep:
    """The change points of each series, the newest first.

    Raises MissingExtra when there is no Otava, EnvironmentProblem when it does not answer."""
    long = [one for one in found if len(one.entries) >= 2 * AFTER]
    short = tuple(
        f"{one.metric} of {one.name} ({one.machine_class}): {len(one.entries)} of {2 * AFTER} gates"
        for one in found
        if one not in long
    )
    asked: dict[float, list[Series]] = {}
    for one in long:
        asked.setdefault(least(one), []).append(one)
    shifts = [s for size, group in asked.items() for s in _shifts(group, size)]
    shifts.sort(key=lambda s: s.when, reverse=True)
    return Creep(tuple(shifts), len(long), short)


def least(one: Series) -> float:
    """The smallest change that is told of, a share: half the latest budget, at least 1 %."""
    limits = [e.limit for e in one.entries if e.limit is not None]
    return max(LEAST, limits[-1] / 2) if limits else LEAST


def line(shift: Shift) -> str:
    """One line for people."""
    word = "crept" if shift.change > 0 else "improved"
    commit = f" (commit {shift.commit[:10]})" if shift.commit else ""
    return (
        f"{shift.metric} of {shift.name} {word} {100 * shift.change:+.1f} % since {shift.when[:10]}"
        f"{commit}, in {shift.gates} gates; now {100 * shift.now:+.1f} % against the last release"
    )


def program(environ: Mapping[str, str]) -> list[str]:
    """How Otava is started here: ACCEL_OTAVA, `otava` on the PATH, or through uvx.

    Raises MissingExtra with the lines that install it, where there is none of these."""
    path = environ.get("PATH")
    if named := environ.get("ACCEL_OTAVA"):
        if shutil.which(named, path=path) is None:
            raise MissingExtra(f"ACCEL_OTAVA is {named!r}, which is not a program. {_install()}")
        return [named]
    if found := shutil.which("otava", path=path):
        return [found]
    if found := shutil.which("uvx", path=path):
        return [found, "--from", PACKAGE, "otava"]
    raise MissingExtra(f"Apache Otava is not installed; it needs numpy 2.2, not ours. {_install()}")


def _install() -> str:
    return (
        f"Give it an environment of its own: python3 -m venv ~/.otava && "
        f"~/.otava/bin/pip install '{PACKAGE}' && export ACCEL_OTAVA=~/.otava/bin/otava"
    )


def _shifts(group: Sequence[Series], size: float) -> list[Shift]:
    names = {f"series-{i}": one for i, one in enumerate(group)}
    with disk.guarded(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as folder:
        config = _write(names, Path(folder))
        answer = _ask(config, list(names), size)
    try:
        return [
            shift
            for name, one in names.items()
            for point in answer[name]
            for change in point["changes"]
            if (shift := _shift(one, change)) is not None
        ]
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError) as error:
        what = f"{type(error).__name__} {error}"
        raise EnvironmentProblem(
            f"Otava answered in words that are not known: {what}. Install {PACKAGE!r}."
        ) from None


def _shift(one: Series, change: Mapping[str, Any]) -> Shift | None:
    index, before, after = change["index"], change["mean_before"], float(change["mean_after"])
    if not 0 < index < len(one.entries):
        raise IndexError(index)
    gates, first = len(one.entries) - index, one.entries[index]
    if gates < AFTER:
        return None
    return Shift(
        one.machine_class, one.name, one.metric, first.when, first.commit,
        change=after / float(before) - 1, now=after - 1, gates=gates,
        p_value=float(change["pvalue"]),
    )  # fmt: skip


def _write(names: Mapping[str, Series], folder: Path) -> Path:
    """A CSV a series, and the configuration (YAML, of which JSON is a part).

    Times are made up, a minute apart: Otava drops a row from the future, and those before --since."""
    tests = {}
    for name, one in names.items():
        file = folder / f"{name}.csv"
        with file.open("w", newline="", encoding="ascii") as stream:
            writer = csv.writer(stream)
            writer.writerow(("time", "ratio"))
            for i, entry in enumerate(one.entries):
                when = FIRST + timedelta(minutes=i)
                writer.writerow((when.isoformat(), repr(math.exp(entry.log_fixed))))
        metrics = {"ratio": {"column": "ratio", "direction": -1}}  # -1: lower is better
        tests[name] = {"type": "csv", "file": str(file), "time_column": "time", "metrics": metrics}
    config = folder / "otava.yaml"
    config.write_text(json.dumps({"tests": tests}), encoding="ascii")
    return config


def _ask(config: Path, names: Sequence[str], size: float) -> dict[str, Any]:
    command = [
        *program(os.environ), "analyze", *names, "--config-file", str(config), "--output", "json",
        "--since", "2000-01-01", "--window", str(WINDOW), "-P", str(P_VALUE), "-M", f"{size:.6g}",
    ]  # fmt: skip
    environ = {k: v for k, v in os.environ.items() if k not in KEPT_FROM_IT}
    try:
        done = subprocess.run(
            command, env=environ, cwd=config.parent, capture_output=True, text=True, check=False,
            timeout=TIMEOUT_S,
        )  # fmt: skip
        answer = {k: v for row in done.stdout.splitlines() for k, v in json.loads(row).items()}
    except (OSError, subprocess.SubprocessError, ValueError, AttributeError) as error:
        raise EnvironmentProblem(
            f"Otava cannot be run ({command[0]}): {error}. {_install()}"
        ) from None
    if lost := [name for name in names if name not in answer]:  # it ends with 0 even then
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise EnvironmentProblem(
            f"Otava did not answer for {len(lost)} of {len(names)} series; it said: {said[0]}. "
            f"{_install()}"
        )
    return answer
