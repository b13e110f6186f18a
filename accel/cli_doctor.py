"""What there is to choose from, and what of it can run here."""

from __future__ import annotations

from typing import Any

import click

from accel.shell import emit, output_options


@click.command("list")
@click.argument("family", type=click.Choice(["targets", "engines", "recipes", "kernels"]))
@output_options
def list_(family: str, as_json: bool, **_: Any) -> None:
    """Names of targets, engines, recipes or kernels; loads nothing."""
    from accel.questions import list as question

    names = question.members(family)
    emit("list", {family: names}, list(names), as_json)


@click.command()
@output_options
def doctor(as_json: bool, **_: Any) -> None:
    """Which engines can run here; why not, and the line that mends it. Exit 7: none."""
    from accel.errors import EnvironmentProblem
    from accel.questions import doctor as question

    found = question.doctor()
    lines = [f"{k}: {v}" for k, v in found.machine.items()]
    lines.append(f"targets: {', '.join(name for name, why in found.targets.items() if not why)}")
    for name, probe in (*found.engines.items(), ("", found.kernels)):
        state = (
            f"usable, {probe.version}" if probe.usable else f"no: {probe.reason} Run: {probe.fix}"
        )
        lines.append(f"{f'engine {name}' if name else 'kernels'}: {state}")
    bad = None if found.healthy else EnvironmentProblem("No engine can run here.")
    emit("doctor", found, lines, as_json, bad)
