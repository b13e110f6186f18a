"""accel.history.jsonl, kept in git: a line a gate and timed statistic, for what creeps in slowly.

Each line holds the logarithm of candidate / fixed artefact, both timed in that gate, so a machine
that got slower as a whole moves nothing. Logarithms of different machine classes are not compared.
In git, `accel.history.jsonl merge=union` in .gitattributes joins the lines of two branches.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from itertools import groupby
from pathlib import Path

from accel import disk, manifest, store
from accel.errors import UsageError
from accel.evidence import BASELINE, CANDIDATE, REFERENCE, TIMED, Budget, Report
from accel.gating import settings

FILE = "accel.history.jsonl"
OPTION = "--history"  # that names it
LARGEST = 50.0  # ln of a ratio: beyond it, no two times were compared
SERIES = ("machine_class", "name", "metric", "fixed")  # what is the same along a series


@dataclass(frozen=True)
class Entry:
    """What one gate says of one timed statistic."""

    when: str  # ISO 8601, UTC
    machine_class: str
    name: str
    metric: str  # one of TIMED, or "metric/group"
    log_fixed: float  # ln(candidate / fixed), median over epochs; more is worse
    log_baseline: float  # ln(candidate / baseline), the same
    epochs: int
    outcome: str  # of the whole gate
    candidate: str  # digest
    baseline: str  # digest
    fixed: str  # digest of the last release; of the baseline where no other was timed
    evidence: str  # names the stream of epochs: a re-run adds to it, and replaces this line
    commit: str = ""
    limit: float | None = None  # its budget, a share; None: it had none


@dataclass(frozen=True)
class Series:
    """Entries of one machine class, name, statistic and fixed artefact, oldest first."""

    machine_class: str
    name: str
    metric: str
    fixed: str
    entries: tuple[Entry, ...]


def entries(report: Report) -> tuple[Entry, ...]:
    """A line for each statistic that every epoch of the gate has; none where nothing was timed."""
    rows = [e.logs.get(CANDIDATE, {}) for e in report.epochs]
    if not rows:
        return ()
    beside = report.reference if _all_have(report, REFERENCE) else None
    evidence = store.digest_json(report.epochs[0])[:20]
    return tuple(
        Entry(
            report.when, report.machine_class, report.name, metric,
            _median(_against(report, metric, REFERENCE if beside else BASELINE)),
            _median(_against(report, metric, BASELINE)),
            len(rows), report.outcome, report.candidate.digest, report.baseline.digest,
            (beside or report.baseline).digest, evidence, report.commit, _limit(report, metric),
        )
        for metric in rows[0]
        if all(math.isfinite(row.get(metric, math.nan)) for row in rows)
        and metric.partition("/")[0] in TIMED
        and (beside is None or all(metric in e.logs[REFERENCE] for e in report.epochs))
    )  # fmt: skip


def claim(path: Path) -> None:
    """Raise what `append` would raise for this place at a gate's end, before minutes are spent."""
    with disk.guarded(path, OPTION):
        if path.exists():
            with _held(path):
                pass
        else:
            disk.probe(path.parent)


def append(path: Path, found: Sequence[Entry]) -> None:
    """Add lines; they are on disk when this returns. Two that append at once wait for each other.

    Raises EnvironmentProblem when the disk is full or not writable, UsageError for a file that
    does not end as a history does."""
    lines = "".join(f"{json.dumps(manifest.dump(one), sort_keys=True)}\n" for one in found)
    if not lines:
        return
    with disk.guarded(path, OPTION):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _held(path) as stream:
            _write(stream, lines.encode())


def read(path: str | Path) -> tuple[Entry, ...]:
    """Every line, in file order; one that a killed run left half written is none.

    Raises UsageError for a file that is not there or holds something else."""
    file = Path(path)
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file} cannot be read: {error}. A gate that is told to keep a history writes it."
        ) from None
    found = [(i, line) for i, line in enumerate(lines, 1) if line.strip()]
    torn = found[-1][0] if lines[-1].strip() else 0
    return tuple(one for i, line in found if (one := _entry(file, i, line, i == torn)) is not None)


def series(found: Iterable[Entry], name: str | None = None) -> tuple[Series, ...]:
    """The entries, each with its like; a re-run of a gate counts once, one that was unfit not."""
    kept = {
        (e.evidence, e.name, e.metric): e  # one stream may serve gates of several names
        for e in sorted(found, key=lambda e: (e.when, e.epochs))
        if e.outcome != "unfit" and name in (None, e.name)
    }
    ordered = sorted(kept.values(), key=lambda e: (_key(e), e.when))
    return tuple(joined(tuple(group)) for _, group in groupby(ordered, key=_key))


def joined(found: Sequence[Entry]) -> Series:
    """One series of these entries.

    Raises UsageError where they differ in what must be the same, the machine class before all."""
    for part in SERIES:
        values = sorted({str(getattr(e, part)) for e in found})
        if len(values) != 1:
            raise UsageError(
                f"Entries that differ in {part} ({', '.join(values) or 'there are none'}) are not "
                f"compared: their ratios do not mean the same. Take them apart with history.series."
            )
    one = found[0]
    return Series(one.machine_class, one.name, one.metric, one.fixed, tuple(found))


def _key(one: Entry) -> tuple[str, ...]:
    return tuple(getattr(one, part) for part in SERIES)


def _against(report: Report, metric: str, arm: str) -> list[float]:
    """ln(candidate / arm) of each epoch; the baseline itself is no arm, the others refer to it."""
    return [
        e.logs[CANDIDATE][metric] - (e.logs[arm][metric] if arm != BASELINE else 0.0)
        for e in report.epochs
    ]


def _all_have(report: Report, arm: str) -> bool:
    return report.reference is not None and all(arm in e.logs for e in report.epochs)


def _median(logs: Sequence[float]) -> float:
    return round(statistics.median(logs), 7)  # a tenth of a millionth; more digits are noise


def _limit(report: Report, metric: str) -> float | None:
    """The narrower of its budgets."""
    base, _, group = metric.partition("/")
    asked: list[Budget] = [c.budget for c in report.judgement.cells]
    limits = [b.limit for b in asked if (b.metric, b.group, b.unit) == (base, group, "%")]
    return min(limits, default=None)


def _entry(file: Path, number: int, line: str, torn: bool) -> Entry | None:
    with settings.at(Path(f"{file} line {number}")):
        try:
            data = manifest.parsed(line)
            if not isinstance(data, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            if torn:
                return None
            hint = (
                " Resolve the merge." if line.startswith(("<<<<<<<", "=======", ">>>>>>>")) else ""
            )
            raise UsageError(f"it is not JSON: {error}.{hint}") from None
        found = manifest.load(Entry, data)
        if not all(abs(log) < LARGEST for log in (found.log_fixed, found.log_baseline)):
            raise UsageError(f"a logarithm is not a number within {LARGEST:g} of 0.")
        return found


@contextmanager
def _held(path: Path) -> Iterator[FileIO]:
    """The file for this process alone, ending with a whole line."""
    with path.open("a+b", buffering=0) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        _mend(path, stream)
        yield stream


def _mend(path: Path, stream: FileIO) -> None:
    """Make the file end with a whole line, whatever a killed run or an editor left at its end.

    Raises UsageError for a file of another kind, by its first line."""
    stream.seek(0)
    data = stream.read()
    whole, _, rest = data.rpartition(b"\n")
    lines = enumerate(whole.split(b"\n"), 1)
    number, first = next(((i, line) for i, line in lines if line.strip()), (0, b""))
    if first:
        _entry(path, number, first.decode("utf-8", "replace"), torn=False)
    if not rest.strip():
        return
    torn = bool(first) or rest.lstrip().startswith(
        b"{"
    )  # as every entry does, also one that was cut
    if _entry(path, data.count(b"\n") + 1, rest.decode("utf-8", "replace"), torn=torn):
        stream.write(b"\n")  # an editor that ends a file without one
    else:
        stream.truncate(len(whole) + 1 if whole else 0)


def _write(stream: FileIO, data: bytes) -> None:
    """All of it or, on a full disk, nothing."""
    end, left = stream.seek(0, os.SEEK_END), memoryview(data)
    try:
        while left:
            left = left[stream.write(left) or 0 :]
        os.fsync(stream.fileno())
    except OSError:
        stream.truncate(end)
        raise
