"""accel calibrate: is this data fit, how much of it is enough, and which ranges come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from accel.cli_place import working_folder
from accel.cli_steps import require_inputs
from accel.errors import UsageError
from accel.shell import emit, output_options
from accel.words import PLACE, TEXT

WIDEST = 5  # values whose extremes are far beyond the range that loses least
METHODS = ("minmax", "percentile", "entropy", "mse")
STEPS = 255
ENOUGH = 16  # accel.calibration.settling.FIRST


@click.command()
@click.argument("model", type=PLACE)
@click.option("--data", type=PLACE, help=".npz of calibration feeds")
@click.option("--workload", "source", type=TEXT, help="the .py whose calibration() yields them")
@click.option(
    "--noise", type=TEXT, multiple=True, help="an input that is random by its nature (repeatable)"
)
@click.option(
    "--most", type=click.IntRange(1), help="feeds to run at most; fewer where ranges settle"
)
@click.option("--all", "whole", is_flag=True, help="run every feed, settled or not")
@click.option("--out", type=PLACE, default=Path("sketches.npz"), show_default=True)
@output_options
def calibrate(model: Path, data: Path | None, source: str | None, noise: tuple[str, ...], most: int | None, whole: bool, out: Path, as_json: bool, **_: Any) -> None:  # fmt: skip
    """Audit calibration data, run MODEL (.onnx) over it once, and tell the range of each value."""
    from accel import disk, graph, sketch
    from accel.steps import calibrate as step

    place = out.absolute()  # the user's code may change the folder
    if whole and most is not None:
        raise UsageError("--all runs every feed, and --most some of them: leave one of them out.")
    described = graph.describe(model.absolute())
    require_inputs(described, noise)
    with working_folder(place, model, data) as folder:
        file, declared, timed = _data(data, source, folder)
        found = step.calibrate(
            described,
            file,
            folder / "calibration",
            most=most,
            stop=not whole,
            noise=(*noise, *declared),
            timed=timed,
        )
        known = sketch.read(found.sketches)
        with disk.guarded(out):
            found.sketches.replace(place)
    ranges = {name: _ranges(one) for name, one in known.items() if one.count}
    value = {
        "feeds": found.feeds, "offered": found.offered, "settled": found.settled,
        "moving": found.moving, "findings": found.findings, "ranges": ranges, "sketches": out,
    }  # fmt: skip
    emit("calibration", value, _lines(found, ranges, out), as_json)


def _data(data: Path | None, source: str | None, folder: Path) -> tuple[Path, Any, Any]:
    from accel import arrays, workload
    from accel.steps import calibrate as step

    if (data is None) == (source is None):
        raise UsageError("Give the feeds, either as --data x.npz or as --workload file.py.")
    if data is not None:
        return data, (), None
    problem = workload.load(str(source))
    if problem.calibration is None:
        raise UsageError(f"{source} has no calibration(). Add it, or give --data x.npz.")
    file = folder / "feeds.npz"
    arrays.save(file, workload.calibration(problem) or ())
    return file, problem.noise, step.sizes(r.inputs for r in workload.requests(problem))


def _ranges(one: Any) -> dict[str, tuple[float, float]]:
    from accel import catalog

    return {name: catalog.load("ranges", name).of(one, STEPS, False) for name in METHODS}


def _lines(found: Any, ranges: dict[str, Any], out: Path) -> list[str]:
    lines = [f"{f.level}: {f.where + ': ' if f.where else ''}{f.message}" for f in found.findings]
    left = "--most was reached" if found.feeds < found.offered else "the data ended"
    ended = "the ranges had settled" if found.settled else left
    if not found.settled and found.feeds < ENOUGH:
        lines.append(f"too few to tell whether ranges have settled: {ENOUGH} feeds are the least")
    lines.append(f"{found.feeds} of {found.offered} feeds were run, then {ended}")
    if found.moving:
        more = f" and {len(found.moving) - 1} more" if len(found.moving) > 1 else ""
        lines.append(f"still moving: the range of {found.moving[0]}{more}")
    wide = sorted(ranges, key=lambda n: -_excess(ranges[n]))[:WIDEST]
    if wide:
        lines.append("where the method matters most (extremes, and the range that loses least):")
    for name in wide:
        low, high = ranges[name]["minmax"]
        best = ranges[name]["mse"]
        lines.append(f"  {name}: {low:.3g} to {high:.3g}, {best[0]:.3g} to {best[1]:.3g}")
    return [*lines, f"{len(ranges)} values: {out}"]


def _excess(ranges: dict[str, tuple[float, float]]) -> float:
    width = {m: high - low for m, (low, high) in ranges.items()}
    return width["minmax"] / width["mse"] if width["mse"] else 0.0
