"""`accel kernels`: list, build, check the hand-written kernels with no GPU, and time them on one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from accel.errors import CandidateBroken, ConstraintError, UsageError
from accel.shell import emit, output_options, say
from accel.words import PLACE, TEXT


@click.group()
def kernels() -> None:
    """Hand-written CUDA kernels: what they are, what they cost, whether they are right."""


def chosen(command: Any) -> Any:
    """--kernel, repeatable; without it, every one."""
    return click.option(
        "--kernel", "names", type=TEXT, multiple=True, help="only these (repeatable)"
    )(command)


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    """Raises UsageError for a name that no kernel has."""
    from accel import catalog

    for name in names:
        catalog.require("kernels", name)
    return tuple(dict.fromkeys(names)) or catalog.names("kernels")


def _progress(quiet: bool) -> Callable[[str], None]:
    return lambda line: None if quiet else say(line, err=True)


@kernels.command("list")
@chosen
@output_options
def list_(names: tuple[str, ...], as_json: bool, **_: Any) -> None:
    """Each op: its algebra, dtypes, baked constants, and launch geometry as formulas of shapes."""
    from accel.questions import kernels as question

    found = [question.describe(name) for name in _known(names)]
    emit("kernels-list", found, [line for k in found for line in _described(k)], as_json)


def _described(kernel: Any) -> list[str]:
    """Sizes that are not known are named after their input and axis."""
    shapes = ", ".join(f"{n} [{', '.join(s)}]" for n, s in kernel.shapes.items())
    scalars = ", ".join(f"{n} = {value}" for n, value in kernel.scalars.items())
    return [
        f"{kernel.name} ({kernel.op}): {', '.join(kernel.dtypes)}",
        f"  {kernel.algebra.removeprefix(f'{kernel.name}: ')}",
        *(f"  baked: {_words(baked)}" for baked in kernel.variants if baked),
        f"  for {shapes}",
        f"  grid {' x '.join(_trimmed(kernel.grid))}, block {' x '.join(_trimmed(kernel.block))}",
        *([f"  scalars: {scalars}"] if scalars else []),
    ]


def _words(baked: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in baked.items())


def _trimmed(sizes: Any) -> list[str]:
    """Without trailing ones: 32 x 4, not 32 x 4 x 1."""
    found = [str(size) for size in sizes]
    while len(found) > 1 and found[-1] == "1":
        found.pop()
    return found


@kernels.command()
@chosen
@click.option("--target", "targets", type=TEXT, multiple=True, default=("all",), show_default=True, help="GPU profiles (repeatable)")  # fmt: skip
@click.option("--out", type=PLACE, help="a folder for every .ptx and .cubin, and their digests")
@click.option("--ledger", type=PLACE, help="write what each costs here: kernels/ledger.json")
@output_options
def build(names: tuple[str, ...], targets: tuple[str, ...], out: Path | None, ledger: Path | None, as_json: bool, quiet: bool, **_: Any) -> None:  # fmt: skip
    """Compile and assemble each op, dtype and variant for each GPU; exit 6 when one fails."""
    from accel import release
    from accel.cuda import building, toolchain
    from accel.steps import kernels as step

    for place, option in ((out, "--out"), (ledger, "--ledger")):
        if place is not None:
            release.outside(place, option)
    if ledger is not None and targets != ("all",):
        raise UsageError("The ledger holds every GPU: leave --target away, or --ledger.")
    gpus = building.gpus(() if "all" in targets else targets)
    versions = toolchain.versions()
    built, refused = step.build(_known(names), gpus, out, versions, _progress(quiet))
    if ledger is not None and not refused:
        step.enter(ledger, built)
    bad = CandidateBroken(_failures(refused, ledger)) if refused else None
    lines = [*step.table(built), *(f"{r.what}: {r.reason}" for r in refused)]
    emit("kernels-build", {"ledger": built, "refused": refused}, lines, as_json, bad)


def _failures(refused: Any, ledger: Path | None) -> str:
    left = "" if ledger is None else f" {ledger} is left as it was."
    return f"{len(refused)} could not be built: {refused[0].what}, ...{left}"


@kernels.command()
@chosen
@output_options
def check(names: tuple[str, ...], as_json: bool, quiet: bool, **_: Any) -> None:
    """Run every case, source and PTX, on the CPU against the reference; exit 1 when one is wrong."""
    from accel.questions import kernels as question

    found = question.check(_known(names), _progress(quiet))
    wrong = [t for t in found if not t.right]
    bad = None
    if wrong:
        bad = ConstraintError(f"{len(wrong)} of {len(found)} are wrong: {_tried(wrong[0])}")
    lines = [*map(_tried, found), f"{len(found) - len(wrong)} of {len(found)} are right"]
    emit("kernels-check", found, lines, as_json, bad)


def _tried(case: Any) -> str:
    what = f"{case.kernel} {case.dtype}, {case.case}, {case.form}"
    if case.reason:
        return f"{what}: WRONG: {case.reason}"
    told = f"{case.excess:.2g} of the error allowed" + ("" if case.right else f" in {case.output}")
    return f"{what}: {told}, {case.threads} threads" + ("" if case.right else ": WRONG")


@kernels.command()
@chosen
@output_options
def bench(names: tuple[str, ...], as_json: bool, quiet: bool, **_: Any) -> None:
    """Time them on this machine's GPU beside a copy of the bytes they move; needs torch with CUDA."""
    from accel.cuda import machine

    machine.require()
    from accel.cuda import bench as timer
    from accel.cuda import bench_table

    found = timer.bench(_known(names), machine.facts(), progress=_progress(quiet))
    document = {"figures": bench_table.figures(found), "bench": found}
    bad = CandidateBroken(f"{found.refused[0].what}: {found.refused[0].reason}") if found.refused else None  # fmt: skip
    emit("kernels-bench", document, bench_table.lines(found), as_json, bad)
