"""`accel bless` and `accel creep`: what the gate compares with, and what it cannot see."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from accel.errors import UsageError
from accel.plain import shown
from accel.shell import emit, output_options
from accel.words import PLACE, TEXT


@click.command()
@click.argument("name", type=TEXT)
@click.option("--release", type=PLACE, required=True, help="what becomes the baseline")
@click.option("--reason", required=True, help="why, in a line; it is recorded")
@click.option("--verdict", type=PLACE, help="the verdict.json of its gate against the old one")
@click.option("--accept-regression", is_flag=True, help="of a FAIL; the ratios are recorded")
@click.option("--init", is_flag=True, help="the first baseline of this name; needs no verdict")
@click.option("--reference", is_flag=True, help="the cumulative budget counts from it on")
@click.option("--place", type=TEXT, help="where others find it: oci://..., a path; default: here")
@click.option("--workload", type=TEXT, help="the .py that its accuracy is measured with")
@click.option(
    "--budget", "budgets", type=TEXT, multiple=True, help="its own: p50=3% (repeatable; replaces)"
)
@click.option("--config", type=PLACE, help="its common budgets; default: accel.toml beside --file")
@click.option("--author", type=TEXT, help="default: git's user.name")
@click.option(
    "--file",
    type=PLACE,
    default=Path("accel.baselines.json"),
    show_default=True,
    help="kept in git",
)
@output_options
def bless(
    file: Path, budgets: tuple[str, ...], author: str | None, as_json: bool, **words: Any
) -> None:
    """Make a release the baseline NAME, on the grounds of the gate that it passed. Exit 1: it did
    not, 3: the gate could not tell."""
    from accel.gating import blessing

    del words["quiet"], words["debug"]
    who = blessing.author(file.absolute().parent) if author is None else author
    said = {k: v for k, v in words.items() if v is not None}
    wish = blessing.Wish(**said, budgets=budgets or None, author=who)
    made, notes = blessing.bless(file, wish)
    grounds = made.blessed.outcome if made.blessed else ""
    lines = [
        f"{made.name}: release {made.release.digest[:12]} at {made.release.place}"
        f"{f', after a {grounds}' if grounds else ''}",
        *notes,
        f"written: {file}; commit it for review",
    ]
    emit("baseline", dataclasses.replace(made, root=file.parent), lines, as_json)


@click.command()
@click.argument("name", type=TEXT, required=False)
@click.option(
    "--history", type=PLACE, default=Path("accel.history.jsonl"), show_default=True,
    help="a line a gate and metric",
)  # fmt: skip
@output_options
def creep(name: str | None, history: Path, as_json: bool, **_: Any) -> None:
    """Look for slow creep in the history of gates (of NAME alone), through Apache Otava. Advisory:
    what is found changes no exit code."""
    from accel.gating import creep as looking
    from accel.gating import history as past
    from accel.gating import settings

    entries = past.read(history)
    names = sorted({entry.name for entry in entries})
    if name is not None and name not in names:
        near = settings.suggestion(name, names)
        raise UsageError(
            f"{history} has no gate of {name!r}.{near} It has: {shown(', '.join(names), keep='')}."
        )
    found = looking.find(past.series(entries, name))
    # one line each, whatever a name holds: CI runners read some lines as commands
    lines = [" ".join(looking.line(shift).split()) for shift in found.shifts]
    lines += [f"note: too short to tell: {one}" for one in found.short]
    if not found.shifts:
        lines.append(f"no creep found in {found.looked_at} series")
    emit("creep", found, lines, as_json)
