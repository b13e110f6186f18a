"""Commands around the hand-written kernels."""

from __future__ import annotations

from pathlib import Path

import click

from accel.cli_place import keep, working_folder
from accel.shell import emit, output_options
from accel.words import PLACE, TEXT


@click.command()
@click.argument("model", type=PLACE)
@click.option("--kernel", "kernels", type=TEXT, multiple=True, help="only these (repeatable)")
@click.option("--out", type=PLACE, default=Path("swapped.onnx"), show_default=True)
@output_options
def swap(model: Path, kernels: tuple[str, ...], out: Path, as_json: bool, **_: object) -> None:
    """Put the kernels' operators into MODEL (.onnx), and list the sites that were refused."""
    import dataclasses

    from accel import graph
    from accel.steps import swap as step

    described = graph.describe(model)
    with working_folder(out, model) as folder:
        made = step.swap(described, folder, kernels)
        made = dataclasses.replace(made, model=keep(made.model, out))
    refused = [f"refused: {r.what}: {r.reason}" for r in made.refused]
    emit("swap", made, [made.model.trail[-1], *refused, str(out)], as_json)
