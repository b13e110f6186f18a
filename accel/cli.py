"""The command line: thin commands over the verbs; the only place that prints or exits."""

from __future__ import annotations

import contextlib
import functools
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from accel.errors import AccelError, ConstraintError, UsageError

BUG = 70


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json, --quiet and --debug, on every command."""
    for name, text in (
        ("--debug", "show the traceback of an error"),
        ("--quiet", "no progress"),
        ("--json", "one JSON document on stdout, human text on stderr"),
    ):
        command = click.option(name, name[2:] if name != "--json" else "as_json", is_flag=True, help=text)(command)  # fmt: skip
    return command


def emit(kind: str, value: Any, lines: list[str], as_json: bool) -> None:
    """The answer: a JSON document on stdout and the text on stderr, or the text on stdout."""
    if as_json:
        from accel import manifest

        click.echo(manifest.document(kind, value))
    for line in lines:
        click.echo(line, err=as_json)


@click.group()
@click.version_option("0.1.0", prog_name="accel")
def cli() -> None:
    """Turn a model into the fastest engine that provably keeps its accuracy on a device."""


class Amount(click.ParamType):  # type: ignore[type-arg]
    """A number whose unit is demanded."""

    name = "amount"

    def __init__(self, **factors: float) -> None:
        self.factors = factors

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """(amount in the base unit, the unit as given)."""
        found = re.fullmatch(r"([0-9.]+)\s*([A-Za-z%]*)", str(value))
        units = {k.replace("percent", "%"): v for k, v in self.factors.items()}
        if not found or found[2] not in units:
            self.fail(
                f"{value!r} needs one of the units {', '.join(units)}: 0.5{next(iter(units))}"
            )
        try:
            return float(found[1]) * units[found[2]], found[2]
        except ValueError:
            self.fail(f"{found[1]!r} is not a number", param, ctx)


@cli.command()
@click.argument("source")
@click.option("--target", default="cpu-local", show_default=True, help="a profile, or a .toml")
@click.option("--max-drop", type=Amount(pt=1.0, percent=1.0), help="0.5pt or 0.5%; default 1%")
@click.option(
    "--objective", default="latency", show_default=True, help="latency, tail, throughput, size"
)
@click.option("--min-speedup", type=float, help="against fp32 in ONNX Runtime, same run")
@click.option("--max-latency", type=Amount(ms=1e-3, s=1.0), help="weighted over requests: 5ms")
@click.option("--max-memory", type=Amount(MB=1e6, GB=1e9), help="peak of the worker: 500MB")
@click.option("--recipe", "recipes", multiple=True, help="only these (repeatable)")
@click.option("--engine", "engines", multiple=True, help="only these (repeatable)")
@click.option("--certify", is_flag=True, help="accept nothing below 'certified'")
@click.option("--data", help=".npz of feeds for a plain .onnx")
@click.option("--work", type=Path, default=Path(".accel"), show_default=True, help="finished steps")
@click.option("--out", type=Path, default=Path("release"), show_default=True)
@click.option("--seed", type=int, default=0)
@output_options
def optimize(source: str, **words: Any) -> None:
    """Search, measure, certify and pack: SOURCE is a workload .py or an .onnx."""
    release = _optimize(source, words)
    emit("release", release, _story(release), words["as_json"])


def _optimize(source: str, words: dict[str, Any]) -> Any:
    from accel import pipeline
    from accel.search import Constraints

    drop = words["max_drop"] or (1.0, "%")
    constraints = Constraints(
        max_drop=drop[0],
        max_drop_relative=drop[1] == "%",
        min_speedup=words["min_speedup"],
        max_latency_s=words["max_latency"] and words["max_latency"][0],
        max_memory_bytes=words["max_memory"] and int(words["max_memory"][0]),
        recipes=words["recipes"],
        engines=words["engines"],
        objective=words["objective"],
        certify=words["certify"],
    )
    with _progress(words["quiet"]) as progress:
        return pipeline.optimize(
            source,
            target=words["target"],
            constraints=constraints,
            out=words["out"],
            work=words["work"],
            data=words["data"],
            seed=words["seed"],
            progress=progress,
        )


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

        click.echo("  " + "  ".join(x for x in table.row(event.candidate) if x), err=True)
    elif event.kind != "phase" or event.text:
        count = f" [{event.done + 1}/{event.total}]" if event.total else ""
        click.echo(f"{event.kind}: {event.text}{count}", err=True)


@cli.command()
@click.argument("source")
@click.option("--exporter", default="torch_export", show_default=True, help="or torchscript")
@click.option("--data", help=".npz of feeds for a plain .onnx")
@click.option("--out", type=Path, default=Path("model.onnx"), show_default=True)
@output_options
def export(
    source: str, exporter: str, data: str | None, out: Path, as_json: bool, **_: Any
) -> None:
    """Export SOURCE to ONNX, checked against eager at three shapes."""
    from accel import workload
    from accel.steps import export as step

    problem = workload.load(source, data)
    with _folder(out) as folder:
        model = step.export(problem, step.roots(problem)[0] if data else exporter, folder)
        model = _keep(model, out)
    emit("model", model, [*model.trail, str(model.path)], as_json)


@contextlib.contextmanager
def _folder(out: Path) -> Any:
    from accel import store

    with store.disk(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".accel-", dir=out.parent) as folder:
            yield Path(folder)


def _keep(model: Any, out: Path) -> Any:
    import dataclasses

    for extra in model.path.parent.glob("*.data"):
        extra.replace(out.with_name(extra.name))
    model.path.replace(out)
    return dataclasses.replace(model, path=out)


@cli.command()
@click.argument("model", type=Path)
@click.option("--recipe", required=True)
@click.option("--engine", default="onnxruntime_cpu", show_default=True, help="whose style to use")
@click.option("--variant", type=int, default=0, show_default=True, help="which of its variants")
@click.option("--target", default="cpu-local", show_default=True)
@click.option("--data", type=Path, help=".npz of calibration feeds")
@click.option("--out", type=Path, default=Path("quantized.onnx"), show_default=True)
@output_options
def quantize(model: Path, recipe: str, engine: str, variant: int, target: str, data: Path | None, out: Path, as_json: bool, **_: Any) -> None:  # fmt: skip
    """Apply a recipe to MODEL (.onnx)."""
    from accel import catalog, graph
    from accel import target as targets
    from accel.steps import quantize as step

    described = graph.describe(model)
    style = catalog.load("engines", engine).style(targets.load(target))
    variants = catalog.load("recipes", recipe).variants(style)
    if not 0 <= variant < len(variants):
        raise UsageError(f"--variant {variant}: {recipe} has 0 to {len(variants) - 1}: {variants}")
    with _folder(out) as folder:
        made = step.quantize(described, recipe, data, style, variants[variant], folder)
        kept = _keep(made.model, out)
    emit("model", kept, [*kept.trail, f"{dict(made.facts)}", str(out)], as_json)


def _plan(model: Path, engine: str, target: str, out: Path, data: str | None) -> tuple[Any, Any]:
    from accel import catalog, graph, workload
    from accel import target as targets
    from accel.steps import build as step

    device = targets.load(target)
    requests = workload.requests(workload.load(str(model), data))
    options = catalog.load("engines", engine).options("fp32", device, requests, {})[-1]
    return step.build(graph.describe(model), engine, device, options, requests, out), requests


@cli.command()
@click.argument("model", type=Path)
@click.option("--engine", default="onnxruntime_cpu", show_default=True)
@click.option("--target", default="cpu-local", show_default=True)
@click.option("--data", help=".npz of feeds")
@click.option("--out", type=Path, default=Path("plan"), show_default=True)
@output_options
def build(model: Path, engine: str, target: str, data: str | None, out: Path, as_json: bool, **_: Any) -> None:  # fmt: skip
    """Build MODEL (.onnx) for an engine."""
    plan, _requests = _plan(model, engine, target, out, data)
    emit("plan", plan, [f"{plan.engine}: {dict(plan.facts)}", str(plan.path)], as_json)


@cli.command()
@click.argument("model", type=Path)
@click.option("--against", type=Path, required=True, help="the .onnx that is right")
@click.option("--engine", default="onnxruntime_cpu", show_default=True)
@click.option("--data", help=".npz of feeds")
@output_options
def check(
    model: Path, against: Path, engine: str, data: str | None, as_json: bool, **_: Any
) -> None:
    """Compare the outputs of MODEL with those of another graph; exit 6 when grossly wrong."""
    from accel.errors import CandidateBroken
    from accel.measure.outputs import outputs
    from accel.steps import check as step

    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        yardstick, requests = _plan(against, "reference", "cpu-local", Path(folder, "a"), data)
        plan, _requests = _plan(model, engine, "cpu-local", Path(folder, "b"), data)
        feeds = [r.inputs for r in requests]
        expected = outputs(yardstick, feeds, Path(folder, "c"))
        found = step.check(plan, expected, feeds, Path(folder, "d"))
    lines = [f"{o.name}: max abs {o.max_abs:.3g}, cosine {o.cosine_min:.6f}, SQNR {o.sqnr_db:.1f} dB" for o in found.outputs]  # fmt: skip
    emit("check", found, lines, as_json)
    if found.gross:
        raise CandidateBroken("; ".join(found.reasons))


@cli.command()
@click.argument("models", nargs=-1, required=True, type=Path)
@click.option("--engine", default="onnxruntime_cpu", show_default=True)
@click.option("--data", help=".npz of feeds")
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True)
@output_options
def bench(models: tuple[Path, ...], engine: str, data: str | None, epochs: int, as_json: bool, **_: Any) -> None:  # fmt: skip
    """Time MODELS (.onnx or releases) side by side: interleaved, in fresh processes."""
    from accel import release as releases
    from accel import stats
    from accel.steps import bench as step
    from accel.values import Measurement

    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        plans, requests = {}, None
        for i, model in enumerate(models):
            if model.is_dir():
                found = releases.read(model)
                plans[str(model)] = found.winner.plan
                requests = requests or releases.requests(model)
            else:
                plans[str(model)], given = _plan(
                    model, engine, "cpu-local", Path(folder, str(i)), data
                )
                requests = requests or given
        timed = step.bench(plans, requests or (), Path(folder, "bench"), epochs=epochs)  # type: ignore[arg-type]
        lines = [
            f"{m.arm}: " + ", ".join(f"{g} p50 {s * 1e3:.3f} ms" for g, s in stats.group_medians(m).items())
            if isinstance(m, Measurement)
            else f"{m.what}: {m.reason}"
            for m in timed
        ]  # fmt: skip
    emit("bench", timed, lines, as_json)


@cli.command()
@click.argument("model", type=Path)
@click.option("--workload", "source", required=True, help="the .py with samples, row and metric")
@click.option(
    "--split", type=click.Choice(["search", "certify"]), default="certify", show_default=True
)
@click.option("--engine", default="onnxruntime_cpu", show_default=True)
@output_options
def evaluate(model: Path, source: str, split: Any, engine: str, as_json: bool, **_: Any) -> None:
    """Score MODEL (.onnx) on a workload's labelled samples."""
    from accel import workload
    from accel.steps import evaluate as step

    problem = workload.load(source)
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        plan, _requests = _plan(model, engine, "cpu-local", Path(folder, "plan"), None)
        score = step.evaluate(plan, problem, split, Path(folder))
    emit("score", score, [f"{score.metric}: {score.value:.4f} {score.unit} ({split})"], as_json)


@cli.command()
@click.argument("source")
@click.option("--target", default="cpu-local", show_default=True)
@click.option("--work", type=Path, default=Path(".accel"), show_default=True)
@click.option("--out", type=Path, default=Path("release"), show_default=True)
@output_options
@click.pass_context
def pack(ctx: click.Context, /, source: str, **words: Any) -> None:
    """Pack the release of a finished optimize of SOURCE again, from its stored steps."""
    ctx.invoke(optimize, source=source, **words)


@cli.command()
@click.argument("model", type=Path)
@output_options
def inspect(model: Path, as_json: bool, **_: Any) -> None:
    """What is in an .onnx: ports, opset, operators, parameters, size, dtypes."""
    from accel.questions import inspect as question

    found = question.inspect(model)
    ports = [f"{k} {p.name}: {p.dtype} {list(p.shape)}" for k in ("input", "output") for p in getattr(found, f"{k}s")]  # fmt: skip
    lines = [
        *ports,
        f"opset: {dict(found.opsets)}",
        f"operators: {dict(found.operators)}",
        f"parameters: {found.parameters:,} {dict(found.dtypes)}",
        f"size: {found.size_bytes / 1e6:.2f} MB",
    ]
    emit("inspect", found, lines, as_json)


@cli.command()
@click.argument("path", type=Path)
@output_options
def verify(path: Path, as_json: bool, **_: Any) -> None:
    """Recompute a release's digests: exit 0 intact, 1 differs, 2 not a release."""
    from accel.questions import verify as question

    found = question.verify(path)
    emit("verify", found, list(found.differences) or [f"{path}: intact"], as_json)
    if not found.intact:
        raise ConstraintError(f"{path} differs from what was packed.")


@cli.command("list")
@click.argument("family", type=click.Choice(["targets", "engines", "recipes", "kernels"]))
@output_options
def list_(family: str, as_json: bool, **_: Any) -> None:
    """Names of targets, engines, recipes or kernels; loads nothing."""
    from accel.questions import list as question

    names = question.members(family)
    emit("list", {family: names}, list(names), as_json)


@cli.command()
@output_options
def doctor(as_json: bool, **_: Any) -> None:
    """Which engines can run here; why not, and the line that mends it. Exit 7: none."""
    from accel.errors import EnvironmentProblem
    from accel.questions import doctor as question

    found = question.doctor()
    lines = [f"{k}: {v}" for k, v in found.machine.items()]
    for name, probe in found.engines.items():
        state = (
            f"usable, {probe.version}" if probe.usable else f"no: {probe.reason} Run: {probe.fix}"
        )
        lines.append(f"engine {name}: {state}")
    emit("doctor", found, lines, as_json)
    if not found.healthy:
        raise EnvironmentProblem("No engine can run here.")


def main(command: click.Command = cli) -> NoReturn:
    """Run, and turn every ending into its exit code (see accel.errors)."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    words = sys.argv[1:]
    try:
        code = command.main(words, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        _fail(error.format_message(), 2, words)
    except AccelError as error:
        if "--debug" in words:
            traceback.print_exc()
        _fail(str(error), error.exit_code, words)
    except (KeyboardInterrupt, click.Abort):
        _fail("Interrupted. Finished steps are kept: run the same command to go on.", 130, words)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        text = f"This is a bug in accel: {type(error).__name__}: {error}. See it with --debug."
        _fail(text, BUG, words)


def _fail(message: str, code: int, words: list[str]) -> NoReturn:
    if "--json" in words:
        from accel import manifest

        click.echo(manifest.document("error", {"message": message, "exit_code": code}))
    click.echo(f"accel: {message}", err=True)
    sys.exit(code)


@click.command(params=optimize.params, help="accel optimize, then its release beside fp32.")
def both(source: str, **words: Any) -> None:
    """The second console script's command."""
    release = _optimize(source, words)
    emit("release", release, _story(release), words["as_json"])
    click.get_current_context().invoke(
        bench, models=(release.path, release.path / "model.onnx"), as_json=words["as_json"]
    )


optimize_and_benchmark = functools.partial(main, both)
