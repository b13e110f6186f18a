"""The command line: thin commands over the verbs; the only place that prints or exits."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from accel.cli_bench import bench, beside_fp32, trouble
from accel.cli_bless import bless, creep
from accel.cli_cache import cache
from accel.cli_calibrate import calibrate
from accel.cli_doctor import doctor, list_
from accel.cli_explain import explain
from accel.cli_gate import gate
from accel.cli_inspect import inspect
from accel.cli_kernels import swap
from accel.cli_ledger import kernels
from accel.cli_release import sbom, sign, verify
from accel.cli_steps import build, check, evaluate, export, quantize
from accel.errors import Unmeasured
from accel.plain import flat, shown
from accel.shell import Amount, Drop, emit, output_options, run, say
from accel.version import VERSION
from accel.words import PLACE, TEXT


@click.group()
@click.version_option(VERSION, prog_name="accel")
def cli() -> None:
    """Turn a model into the fastest engine that provably keeps its accuracy on a device."""


DEMANDS = (
    click.option(
        "--target", type=TEXT, default="cpu-local", show_default=True, help="a profile, or a .toml"
    ),
    click.option(
        "--max-drop", type=Drop(pt=1.0, percent=1.0), help="0.5pt, 0.5%, none; default 1%"
    ),
    click.option(
        "--objective",
        type=TEXT,
        default="latency",
        show_default=True,
        help="latency, tail, throughput, size",
    ),
    click.option("--min-speedup", type=float, help="against fp32 in ONNX Runtime, same run"),
    click.option("--max-latency", type=Amount(ms=1e-3, s=1.0), help="weighted over requests: 5ms"),
    click.option("--max-memory", type=Amount(MB=1e6, GB=1e9), help="peak of the worker: 500MB"),
    click.option("--certify", is_flag=True, help="accept nothing below 'certified'"),
    click.option(
        "--work", type=PLACE, default=Path(".accel"), show_default=True, help="finished steps"
    ),
    click.option("--out", type=PLACE, default=Path("release"), show_default=True),
    click.option("--seed", type=int, default=0),
    click.option("--epochs", type=click.IntRange(2), help="of the final, at most; default 8"),
)


def demands(command: Any) -> Any:
    """What a release may be asked to meet, and where things are kept."""
    for option in reversed(DEMANDS):
        command = option(command)
    return command


@cli.command()
@click.argument("source", type=TEXT)
@click.option("--data", type=TEXT, help=".npz of feeds for a plain .onnx")
@demands
@click.option("--recipe", "recipes", type=TEXT, multiple=True, help="only these (repeatable)")
@click.option("--engine", "engines", type=TEXT, multiple=True, help="only these (repeatable)")
@click.option(
    "--budget",
    "minutes",
    type=click.FloatRange(0, 1e5),
    help="minutes for mending int8; default 10",
)
@click.option("--unmeasured", is_flag=True, help="time nothing: pack for accel finish; exit 3")
@output_options
def optimize(source: str, **words: Any) -> None:
    """Search, measure, certify and pack: SOURCE is a workload .py or an .onnx. Exit 3: packed
    unmeasured, for accel finish on the device."""
    release = _optimize(source, words)
    emit("release", release, _story(release), words["as_json"], _waiting(release))


def _waiting(release: Any) -> Unmeasured | None:
    """What is left to do of a release whose target is another machine."""
    if release.certificate is not None:
        return None
    return Unmeasured(
        f"{release.path} is unmeasured: it has no winner yet. Copy it, and its workload, to the "
        f"device, and run there: accel finish {release.path.name}"
    )


@cli.command()
@click.argument("release", type=PLACE)
@click.option(
    "--workload", type=TEXT, help="the .py that it was packed with; default: where it was then"
)
@click.option(
    "--work", type=PLACE, default=Path(".accel"), show_default=True, help="finished steps"
)
@click.option("--out", type=PLACE, help="default: RELEASE-finished, beside it")
@output_options
def finish(release: Path, quiet: bool, as_json: bool, debug: bool, **words: Any) -> None:
    """On the device: build, measure, certify and select what was packed unmeasured in RELEASE.
    Exit 3: this machine is not its target."""
    from accel import pipeline

    del debug
    with _progress(quiet) as progress:
        finished = pipeline.finish(release, **words, progress=progress)
    emit("release", finished, _story(finished), as_json)


def _optimize(source: str, words: dict[str, Any]) -> Any:
    from accel import pipeline

    with _progress(words["quiet"]) as progress:
        return pipeline.optimize(source, **_constrained(words), progress=progress)


def _constrained(words: dict[str, Any]) -> dict[str, Any]:
    from accel.constraints import Constraints

    drop = words["max_drop"] or (1.0, "%")
    constraints = Constraints(
        max_drop=drop[0],
        max_drop_relative=drop[1] == "%",
        min_speedup=words["min_speedup"],
        max_latency_s=words["max_latency"] and words["max_latency"][0],
        max_memory_bytes=words["max_memory"] and int(words["max_memory"][0]),
        recipes=words.get("recipes", ()),
        engines=words.get("engines", ()),
        objective=words["objective"],
        certify=words["certify"],
    )
    plain = ("target", "out", "work", "data", "seed", "epochs", "unmeasured", "minutes")
    given = {k: words[k] for k in plain if words.get(k) is not None}
    return {"constraints": constraints, **given}


def _story(release: Any) -> list[str]:
    from accel.report import summary

    return [*summary.headline(release), f"release: {release.path}"]


@contextlib.contextmanager
def _progress(quiet: bool) -> Any:
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        from accel import terminal

        with terminal.live() as show:
            yield show
    else:
        yield _plain_line


def _plain_line(event: Any) -> None:
    if event.candidate is not None:
        from accel.report import table

        row = "  ".join(x for x in table.row(event.candidate) if x)
        say(shown(f"  {row}", keep=""), err=True)
    elif event.kind != "phase" or event.text:
        count = f" [{event.done + 1}/{event.total}]" if event.total else ""
        say(f"{event.kind}: {flat(event.text)}{count}", err=True)


@cli.command()
@click.argument("graph", type=PLACE)
@click.option(
    "--workload",
    "source",
    type=TEXT,
    required=True,
    help="the .py, or the .onnx, that it was made of",
)
@click.option("--data", type=TEXT, help=".npz of feeds, where --workload is an .onnx")
@click.option("--engine", type=TEXT, default="onnxruntime_cpu", show_default=True)
@demands
@output_options
def pack(graph: Path, source: str, engine: str, **words: Any) -> None:
    """Make a release of GRAPH, an .onnx made elsewhere: scored, timed and certified, no search."""
    from accel import pipeline

    with _progress(words["quiet"]) as progress:
        release = pipeline.pack(
            source, graph, engine=engine, **_constrained(words), progress=progress
        )
    emit("release", release, _story(release), words["as_json"])


for verb in (
    export,
    quantize,
    swap,
    build,
    check,
    bench,
    evaluate,
    inspect,
    kernels,
    gate,
    bless,
    creep,
    calibrate,
    doctor,
    list_,
    explain,
    verify,
    sign,
    sbom,
    cache,
):
    cli.add_command(verb)


@click.command(params=optimize.params, help="accel optimize, then its release beside fp32.")
def both(source: str, **words: Any) -> None:
    """The second console script's command: one document, or one table, for the two."""
    from accel.report import timing

    release = _optimize(source, words)
    if waiting := _waiting(release):
        emit("release", release, _story(release), words["as_json"], waiting)
    found = beside_fp32(release, words["work"])
    lines = [*_story(release), *timing.table(found)]
    value = {"release": release, "bench": found}
    emit("optimize-and-benchmark", value, lines, words["as_json"], trouble(found))


def main() -> NoReturn:
    """The console script `accel`."""
    run(cli)


def optimize_and_benchmark() -> NoReturn:
    """The console script `optimize-and-benchmark`."""
    run(both)
