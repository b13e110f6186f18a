"""accel.baselines.json, kept in git: which release each workload is gated against, and since when.

It holds pointers: a digest and where the release lies, never the release and never milliseconds. To
bless a new one changes a few lines, which are reviewed as any other change. Its schema is published
as baselines.schema.json beside this file.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accel import disk, manifest
from accel.errors import NoBaseline, UsageError
from accel.gating import budgets as limits
from accel.gating import pointers, settings
from accel.gating.pointers import Pointer
from accel.plain import shown
from accel.replacing import alone

FILE = "accel.baselines.json"
KIND = "accel/baselines"


@dataclass(frozen=True)
class Blessing:
    """Who made this release the baseline, and on what grounds."""

    reason: str
    when: str  # ISO 8601, UTC
    author: str = ""
    outcome: str = ""  # of the gate that it passed; "fail": accepted so; empty: none was asked
    verdict: str = ""  # sha256 of that gate's verdict.json
    ratio: Mapping[str, float] = field(default_factory=dict)  # metric -> candidate / old baseline
    failed: tuple[str, ...] = ()  # what was accepted all the same: "copies: 0 -> 5"


@dataclass(frozen=True)
class Baseline:
    """What a workload is gated against."""

    name: str
    release: Pointer
    root: Path  # the folder of the file: relative places start there; not written
    workload: str = ""  # "file.py" or "file.py:object", for the accuracy
    budgets: tuple[str, ...] = ()  # on top of those of accel.toml; see accel.gating.budgets
    reference: Pointer | None = None  # the last release: what the cumulative budget counts from
    blessed: Blessing | None = None


def read(path: str | Path) -> Mapping[str, Baseline]:
    """The baselines by name.

    Raises NoBaseline where there is no such file, UsageError for one that cannot be understood."""
    file = Path(path)
    if not file.exists():
        raise NoBaseline(
            f"{file} does not exist: nothing to compare with. Make it with: "
            f"accel bless NAME --release RELEASE --reason TEXT --init --file {file}"
        )
    data = manifest.read(file)
    if not isinstance(data, dict) or data.get("schema") != KIND:
        raise UsageError(f"{file} is no baselines file: it does not have the schema {KIND!r}.")
    if data.get("schema_version") != manifest.SCHEMA:
        raise UsageError(
            f"{file} has schema version {data.get('schema_version')!r}; this accel reads "
            f"{manifest.SCHEMA}. Install the accel that wrote it."
        )
    with settings.at(file):
        entries = data.get("baselines")
        if not isinstance(entries, dict) or set(data) - {"schema", "schema_version", "baselines"}:
            raise UsageError(f"besides its schema it has 'baselines' alone, not {sorted(data)}.")
        root = file.resolve().parent  # as `update` has it: a link's own folder says nothing
        return {name: _entry(name, entries[name], root) for name in entries}


def named(path: str | Path, name: str | None) -> Baseline:
    """The baseline of this name; of the only one where no name is given.

    Raises NoBaseline where there is none, UsageError when one of several must be named."""
    found = read(path)
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name is None and found:
        raise UsageError(f"{path} has {len(found)} baselines: name one of {', '.join(found)}.")
    if name is None or name not in found:
        near = settings.suggestion(name or "", found)
        raise NoBaseline(
            f"{path} has no baseline {name or 'at all'!r}.{near} It has: {', '.join(found) or 'none'}."
            f" Make it with: accel bless {name or 'NAME'} --release RELEASE --reason TEXT --init"
        )
    return found[name]


def resolve(entry: Baseline) -> Path:
    """The folder of the baseline's release, whose every digest holds.

    Raises NoBaseline when it is not there, is another release, or was changed."""
    return pointers.follow(entry.release, entry.root, f"The baseline of {entry.name}")


def resolve_reference(entry: Baseline) -> Path | None:
    """The folder of the last release; None where there is none, or it is the baseline itself.

    Raises as `resolve` does."""
    if entry.reference is None or same_reference(entry):
        return None
    return pointers.follow(entry.reference, entry.root, f"The last release of {entry.name}")


def same_reference(entry: Baseline) -> bool:
    """Is there no last release besides the baseline itself?"""
    return entry.reference is None or entry.reference.digest == entry.release.digest


def update(
    path: Path, change: Callable[[Mapping[str, Baseline]], Mapping[str, Baseline]]
) -> Mapping[str, Baseline]:
    """Read, change and write the file, with no other writer in between.

    Raises EnvironmentProblem when the disk is full or not writable, and what `change` raises."""
    file = path.resolve()  # a link stays one
    with disk.guarded(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    with disk.guarded(file), alone(file.parent):
        found = change(read(file) if file.exists() else {})
        disk.write(file, text(found))
    return found


def text(entries: Mapping[str, Baseline]) -> str:
    """The file's text: one for the same entries, in lines that make a short diff."""
    rows = {name: _row(entry) for name, entry in entries.items()}
    data = {"schema": KIND, "schema_version": manifest.SCHEMA, "baselines": rows}
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def workload(entry: Baseline) -> str | None:
    """The source of the workload as the gate loads it, if the entry has one."""
    return str(entry.root / entry.workload) if entry.workload else None


def _entry(name: str, data: Any, root: Path) -> Baseline:
    with settings.at(Path(shown(name, keep=""))):
        if not isinstance(data, dict) or not name.strip() or not name.isprintable():
            raise UsageError("an entry is an object, under a printable name.")
        if "root" in data or "name" in data:
            raise UsageError("unknown fields: root or name")
        found = manifest.load(Baseline, {**data, "name": name, "root": str(root)})
        for pointer in (found.release, found.reference):
            if pointer is not None:
                pointers.check(pointer)
        if found.blessed and not all(map(math.isfinite, found.blessed.ratio.values())):
            raise UsageError("a ratio of what was blessed is a number.")
        for line in found.budgets:
            limits.parse(line)
        return found


def _row(entry: Baseline) -> dict[str, Any]:
    data = dataclasses.asdict(entry)
    del data["name"], data["root"]
    return {k: _kept(v) if isinstance(v, dict) else v for k, v in data.items() if v}


def _kept(data: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in data.items() if v}
