"""accel explain: which part of a converted graph breaks it, and why."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from accel.errors import UsageError
from accel.shell import emit, output_options, say
from accel.words import PLACE, TEXT

MOST_FEEDS = 64
GROWING = 5  # values that the text names


@click.command()
@click.argument("candidate", type=PLACE)
@click.option(
    "--against", type=PLACE, help="the float .onnx that it was made of; else --workload is exported"
)
@click.option(
    "--workload", "source", type=TEXT, help="the .py whose samples, or calibration data, are run"
)
@click.option("--data", type=PLACE, help=".npz of feeds to run instead")
@click.option("--feeds", "most", type=click.IntRange(1), default=MOST_FEEDS, show_default=True)
@output_options
def explain(candidate: Path, against: Path | None, source: str | None, data: Path | None, most: int, quiet: bool, as_json: bool, **_: Any) -> None:  # fmt: skip
    """Take every part of CANDIDATE (.onnx, or a release) back alone, and tell what that mends.

    Outputs are compared with those of the float graph that it was made of."""
    from accel.questions import explain as question

    graph, root = _graph(candidate.absolute())  # the user's code may change the folder
    against = against and against.absolute()
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        feeds, calibration = _feeds(source, data, most, Path(folder))
        with _against(against, source, root) as reference, _bar(quiet) as told:
            found = question.explain(graph, reference, feeds, calibration, told)
    emit("explain", found, _lines(found), as_json)


def _graph(candidate: Path) -> tuple[Path, str]:
    """The graph, and the root that a release's winner was made of."""
    if not candidate.is_dir():
        return candidate, ""
    from accel import release

    found = release.read(candidate)
    plan = found.winner.plan
    if plan is None or plan.portable:
        return candidate / "model.onnx", found.winner.root
    if plan.model.path.suffix == ".onnx" and plan.model.path.is_file():
        return plan.model.path, found.winner.root
    raise UsageError(
        f"{candidate} does not hold the graph that its winner was built from. Ask of the portable one: "
        f"accel explain {candidate / 'model.onnx'} --against model.onnx"
    )


def _feeds(
    source: str | None, data: Path | None, most: int, folder: Path
) -> tuple[list[Any], Iterator[Any] | None]:
    """What is run, and the calibration feeds, one at a time."""
    from accel import arrays, workload

    if data is not None:
        return arrays.load(data)[:most], None
    if source is None:
        raise UsageError("Say what to run: --workload file.py, or --data x.npz.")
    problem = workload.load(source)
    calibration = workload.calibration(problem)
    samples = workload.samples(problem, "search") or []
    feeds = [feed for inputs, _ in samples for feed in inputs]
    if not feeds and calibration is not None:
        return _spread(calibration, most, folder / "calibration.npz")
    feeds = feeds or [r.inputs for r in workload.requests(problem)]
    step = max(1, len(feeds) // most)
    return feeds[::step][:most], calibration


def _spread(calibration: Iterator[Any], most: int, file: Path) -> tuple[list[Any], Iterator[Any]]:
    """Some of the feeds, and all of them from a file: the user's code may give them only once."""
    from accel import arrays, disk

    with disk.guarded(file.parent):
        step = max(1, arrays.save(file, calibration) // most)
    feeds = list(itertools.islice(arrays.stream(file), 0, step * most, step))
    return feeds, arrays.stream(file)


@contextlib.contextmanager
def _against(given: Path | None, source: str | None, root: str) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    if source is None:
        raise UsageError("Name the float graph that it was made of: --against model.onnx.")
    from accel import workload
    from accel.steps import export

    problem = workload.load(source)
    roots = export.roots(problem)
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        yield export.export(problem, root if root in roots else roots[0], Path(folder)).path


@contextlib.contextmanager
def _bar(quiet: bool) -> Iterator[Any]:
    last = [-1]

    def told(done: int, total: int) -> None:
        tenth = 10 * done // total
        if not quiet and tenth != last[0]:
            last[0] = tenth
            say(f"{done} of {total} parts taken back", err=True)

    yield told


def _lines(found: Any) -> list[str]:
    lines = [f"outputs: SQNR {found.sqnr_db:.1f} dB, {found.parts} parts, {found.feeds} feeds"]
    if found.tried < found.parts:
        lines.append(f"{found.tried} of them were tried: those that are off most themselves")
    for i, one in enumerate(found.suspects, 1):
        kind = (
            f"{one.kind}: {one.message}" if one.kind else "rounded as any, and it matters most here"
        )
        share = f"{100 * one.recovered:.0f} % of the error"
        lines.append(
            f"{i}. {one.part}: put into the float graph alone it makes {share}"
            if one.alone
            else f"{i}. {one.part}: {share} goes without it"
        )
        lines.append(f"   {kind}")
        lines += [f"   {one.mend}"] if one.mend else []
    if not found.suspects:
        lines.append("no part that was tried mends 1 % of the error: it is spread over all of them")
    lines += [f"cannot be taken back: {text}" for text in found.untold[:GROWING]]
    lines += _growth(found.growth)
    return lines


def _growth(found: Sequence[Any]) -> list[str]:
    jumps = ", ".join(f"{g.value} {g.sqnr_db:.1f} dB" for g in found[:GROWING])
    return [f"the error grows at: {jumps}"] if jumps else []
