"""The verbs as commands, each on a file of its own: export, quantize, build, check, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from accel.cli_place import keep, plan_folder, working_folder
from accel.errors import UsageError
from accel.plain import flat
from accel.scratch import scratch
from accel.shell import emit, output_options, say
from accel.words import PLACE, TEXT


@click.command()
@click.argument("source", type=TEXT)
@click.option(
    "--exporter", type=TEXT, default="torch_export", show_default=True, help="or torchscript"
)
@click.option("--data", type=TEXT, help=".npz of feeds for a plain .onnx")
@click.option("--out", type=PLACE, default=Path("model.onnx"), show_default=True)
@output_options
def export(
    source: str, exporter: str, data: str | None, out: Path, as_json: bool, **_: Any
) -> None:
    """Export SOURCE to ONNX, checked against eager at three shapes."""
    import dataclasses

    from accel import sources, workload
    from accel.steps import export as step

    place = out.absolute()  # the user's code may change the folder
    problem = workload.load(source, data)
    with working_folder(place, Path(sources.parted(problem.source)[0]), data) as folder:
        model = step.export(problem, step.roots(problem)[0] if data else exporter, folder)
        model = dataclasses.replace(keep(model, place), path=out)
    emit("model", model, [*model.trail, str(model.path)], as_json)


@click.command()
@click.argument("model", type=PLACE)
@click.option("--recipe", type=TEXT, required=True)
@click.option(
    "--engine", type=TEXT, default="onnxruntime_cpu", show_default=True, help="whose style to use"
)
@click.option("--variant", type=int, help="which of its variants; default: the first that applies")
@click.option("--target", type=TEXT, default="cpu-local", show_default=True)
@click.option("--data", type=PLACE, help=".npz of calibration feeds")
@click.option(
    "--noise", type=TEXT, multiple=True, help="an input that is random by its nature (repeatable)"
)
@click.option("--out", type=PLACE, default=Path("quantized.onnx"), show_default=True)
@output_options
def quantize(model: Path, recipe: str, engine: str, variant: int | None, target: str, data: Path | None, noise: tuple[str, ...], out: Path, as_json: bool, **_: Any) -> None:  # fmt: skip
    """Apply a recipe to MODEL (.onnx)."""
    from accel import catalog, graph
    from accel import target as targets
    from accel.steps import quantize as step

    described = graph.describe(model)
    style = catalog.load("engines", engine).style(targets.load(target))
    variants = catalog.load("recipes", recipe).variants(style)
    if variant is not None and not 0 <= variant < len(variants):
        raise UsageError(f"--variant {variant}: {recipe} has 0 to {len(variants) - 1}: {variants}")
    wanted = variants if variant is None else (variants[variant],)
    require_inputs(described, noise)
    _require_use(recipe, data, noise)
    with working_folder(out, model, data) as folder:
        made = _first(
            wanted,
            lambda one: step.quantize(described, recipe, data, style, one, folder, noise=noise),
        )
        kept = keep(made.model, out)
    emit("model", kept, [*kept.trail, f"{dict(made.facts)}", str(out)], as_json)


def _require_use(recipe: str, data: Path | None, noise: tuple[str, ...]) -> None:
    """Raise UsageError for data that a recipe would not look at."""
    from accel import catalog

    member = catalog.load("recipes", recipe)
    if data is not None and not member.NEEDS_CALIBRATION:
        raise UsageError(
            f"--data {data}: {recipe} takes no calibration data. Leave it out, or choose another "
            f"recipe: accel list recipes"
        )
    if noise and not getattr(member, "NEEDS_SKETCHES", False):
        raise UsageError(f"--noise: {recipe} audits no data. Leave it out.")


def require_inputs(model: Any, noise: tuple[str, ...]) -> None:
    """Raise UsageError for a name of --noise that no input has."""
    from accel.gating import settings

    known = [port.name for port in model.inputs]
    for name in noise:
        if name not in known:
            near = settings.suggestion(name, known)
            raise UsageError(f"--noise {name}: no input has that name.{near} Known: {known}")


def _first(variants: Any, make: Any) -> Any:
    """What the first variant that applies makes; the last one's error where none does."""
    from accel.errors import CandidateBroken

    for one in variants[:-1]:
        try:
            return make(one)
        except CandidateBroken as error:
            say(f"note: {one} does not apply: {flat(error)}", err=True)
    return make(variants[-1])


def plan_of(model: Path, engine: str, target: str, out: Path, data: str | None) -> tuple[Any, Any]:
    """The plan of an .onnx, and the requests of its data."""
    from accel import catalog, graph, workload
    from accel import target as targets
    from accel.measure import here
    from accel.steps import build as step

    device, described = targets.load(target), graph.describe(model)
    here.require(device)
    requests = workload.requests(workload.plain(model, data))
    options = catalog.load("engines", engine).options("fp32", device, requests, {})[-1]
    return step.build(described, engine, device, options, requests, out), requests


@click.command()
@click.argument("model", type=PLACE)
@click.option("--engine", type=TEXT, default="onnxruntime_cpu", show_default=True)
@click.option("--target", type=TEXT, default="cpu-local", show_default=True)
@click.option("--data", type=TEXT, help=".npz of feeds")
@click.option("--out", type=PLACE, default=Path("plan"), show_default=True)
@output_options
def build(model: Path, engine: str, target: str, data: str | None, out: Path, as_json: bool, **_: Any) -> None:  # fmt: skip
    """Build MODEL (.onnx) for an engine."""
    plan, _requests = plan_of(model, engine, target, plan_folder(out, model, data), data)
    lines = [f"{plan.engine}: {dict(plan.facts)}", *_where(plan), str(plan.path)]
    emit("plan", plan, lines, as_json)


def _where(plan: Any) -> list[str]:
    from accel import placement

    return [placement.line(plan.placement)] if plan.placement is not None else []


@click.command()
@click.argument("model", type=PLACE)
@click.option("--against", type=PLACE, required=True, help="the .onnx that is right")
@click.option("--engine", type=TEXT, default="onnxruntime_cpu", show_default=True)
@click.option("--data", type=TEXT, help=".npz of feeds")
@output_options
def check(
    model: Path, against: Path, engine: str, data: str | None, as_json: bool, **_: Any
) -> None:
    """Compare the outputs of MODEL with those of another graph; exit 6 when grossly wrong."""
    from accel.errors import CandidateBroken
    from accel.measure.outputs import outputs
    from accel.steps import check as step

    with scratch() as folder:
        yardstick, requests = plan_of(against, "reference", "cpu-local", folder / "a", data)
        plan, _requests = plan_of(model, engine, "cpu-local", folder / "b", data)
        feeds = [r.inputs for r in requests]
        expected = outputs(yardstick, feeds, folder / "c")
        found = step.check(plan, expected, feeds, folder / "d")
    lines = [f"{o.name}: max abs {o.max_abs:.3g}, cosine {o.cosine_min:.6f}, SQNR {o.sqnr_db:.1f} dB" for o in found.outputs]  # fmt: skip
    lines += _where(plan)
    bad = CandidateBroken("; ".join(found.reasons)) if found.gross else None
    emit("check", found, lines, as_json, bad)


@click.command()
@click.argument("model", type=PLACE)
@click.option(
    "--workload", "source", type=TEXT, required=True, help="the .py with samples, row and metric"
)
@click.option(
    "--split", type=click.Choice(["search", "certify"]), default="certify", show_default=True
)
@click.option("--engine", type=TEXT, default="onnxruntime_cpu", show_default=True)
@output_options
def evaluate(model: Path, source: str, split: Any, engine: str, as_json: bool, **_: Any) -> None:
    """Score MODEL (.onnx) on a workload's labelled samples."""
    from accel import manifest, workload
    from accel.steps import evaluate as step

    model = model.absolute()  # the user's code may change the folder
    problem = workload.load(source)
    with scratch() as folder:
        plan, _requests = plan_of(model, engine, "cpu-local", folder / "plan", None)
        score = step.evaluate(plan, problem, split, folder)
    kept = {**manifest.dump(score), "rows": None, "clusters": None}  # these are gone by now
    emit("score", kept, [f"{score.metric}: {score.value:.4f} {score.unit} ({split})"], as_json)
