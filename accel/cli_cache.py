"""`accel cache`: what earlier runs kept in a work folder; whether it is whole; less of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from accel.errors import ConstraintError
from accel.shell import Amount, emit, output_options
from accel.words import PLACE

STEPS_S = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@click.group()
def cache() -> None:
    """Finished steps of earlier runs, which a rerun goes on from: list, verify, prune."""


def work_option(command: Any) -> Any:
    """--work, as the verbs that fill it have it."""
    return click.option(
        "--work", type=PLACE, default=Path(".accel"), show_default=True, help="finished steps"
    )(command)


@cache.command("list")
@work_option
@output_options
def list_(work: Path, as_json: bool, **_: Any) -> None:
    """Each finished step: its verb, the digest of its key, its size, and when it was last asked for."""
    from accel import cache as kept
    from accel import disk

    with disk.guarded(work, "--work"):
        found = kept.entries(work, time.time())
    total = sum(e.size_bytes for e in found)
    lines = [*_table(found), f"{len(found)} kept, {_size(total)}"]
    emit("cache-list", {"entries": found, "size_bytes": total}, lines, as_json)


def _table(entries: Sequence[Any]) -> list[str]:
    """Columns as wide as their widest cell; the one that was asked for last stands at the bottom."""
    rows = [("verb", "key", "size", "last asked for")]
    rows += [(e.verb, e.key, _size(e.size_bytes), f"{_age(e.age_s)} ago") for e in entries]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        f"{verb:{widths[0]}}  {key:{widths[1]}}  {size:>{widths[2]}}  {age}"
        for verb, key, size, age in rows
    ]


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.2f} MB"


def _age(seconds: float) -> str:
    unit_s, name = next((s for s in STEPS_S if seconds >= s[0]), STEPS_S[-1])
    return f"{seconds / unit_s:.0f} {name}"


@cache.command()
@work_option
@output_options
def verify(work: Path, as_json: bool, **_: Any) -> None:
    """Read every finished step against its digests. A damaged one goes to quarantine, and the next
    run makes it again: exit 1."""
    from accel import cache as kept
    from accel import disk, store

    with disk.guarded(work, "--work"):
        found = kept.verify(work)
    lines = [f"{name}: {why}" for name, why in found.damaged.items()]
    lines += [f"{name}: not looked at, a running process has it" for name in found.busy]
    lines.append(f"{found.intact} intact, {len(found.damaged)} damaged, {len(found.busy)} busy")
    place = work / "store" / store.QUARANTINE
    bad = ConstraintError(
        f"{len(found.damaged)} of the finished steps in {work} were damaged; they lie in {place} "
        f"now. Run the command that made them again; remove them with: accel cache prune"
    )
    emit("cache-verify", found, lines, as_json, bad if found.damaged else None)


@cache.command()
@work_option
@click.option("--max-size", type=Amount(MB=1e6, GB=1e9), required=True, help="what may be left: 2GB")  # fmt: skip
@output_options
def prune(work: Path, max_size: tuple[float, str], as_json: bool, **_: Any) -> None:
    """Remove scrap, then the steps that were not asked for the longest, until --max-size is kept.
    What a running process uses stays: exit 1 where too much is left."""
    from accel import cache as kept
    from accel import disk

    with disk.guarded(work, "--work"):
        found = kept.prune(work, max_size[0], time.time())
    lines = [f"removed {e.verb}-{e.key}, {_size(e.size_bytes)}" for e in found.removed]
    lines += [f"kept {e.verb}-{e.key}: a running process uses it" for e in found.in_use]
    lines.append(
        f"{len(found.removed)} removed, and {_size(found.scrap_bytes)} of half-made or quarantined "
        f"ones; {_size(found.left_bytes)} left"
    )
    over = found.left_bytes > max_size[0]
    bad = ConstraintError(
        f"{_size(found.left_bytes)} are left in {work}, {_size(max_size[0])} were allowed: running "
        f"processes use {len(found.in_use)} steps. Prune again when they have ended."
    )
    emit("cache-prune", found, lines, as_json, bad if over else None)
