"""accel bench: models side by side, or under the load of an MLPerf scenario."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from accel.cli_steps import plan_of
from accel.errors import AccelError, UsageError
from accel.scratch import scratch
from accel.shell import Amount, emit, output_options, say
from accel.words import PLACE, TEXT

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
SCENARIO_WORDS = ("qps", "seconds", "latency_bound", "samples_per_query", "loadgen")


@click.command()
@click.argument("models", nargs=-1, required=True, type=PLACE)
@click.option(
    "--engine",
    type=TEXT,
    default="onnxruntime_cpu",
    show_default=True,
    help="for an .onnx; a release brings its own",
)
@click.option(
    "--data", type=TEXT, help=".npz of feeds, for releases as well; without it: their own requests"
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="fresh processes of each model",
)
@click.option("--out", type=PLACE, help="a folder for every sample; without it they are dropped")
@click.option(
    "--scenario",
    type=click.Choice(SCENARIOS),
    help="of MLPerf; without it: call after call, interleaved",
)
@click.option("--qps", type=float, help="Server: mean rate of the Poisson arrivals")
@click.option(
    "--seconds", type=float, default=10.0, show_default=True, help="a scenario's run, each"
)
@click.option(
    "--latency-bound",
    type=Amount(ms=1e-3, s=1.0),
    help="Server: on p99; without --qps, finds the largest rate",
)
@click.option(
    "--samples-per-query", type=click.IntRange(1), default=8, show_default=True, help="MultiStream"
)
@click.option("--loadgen", is_flag=True, help="run the scenario through MLPerf's LoadGen, too")
@click.option("--seed", type=click.IntRange(0), default=0, help="of arrivals and of the order")
@output_options
def bench(models: tuple[Path, ...], engine: str, data: str | None, epochs: int, out: Path | None, as_json: bool, quiet: bool, debug: bool, **words: Any) -> None:  # fmt: skip
    """Time MODELS (.onnx or releases) side by side: interleaved, in fresh processes; with --scenario,
    under a load of MLPerf's, latency from the scheduled arrival. Exit 6 when one breaks, 1 when no rate keeps a bound."""
    from accel import disk
    from accel import release as releases
    from accel.report import timing
    from accel.steps import bench as step

    del debug
    if words["scenario"] is None:
        _without_scenario()
    _engine_for_some(models, engine)
    if out is not None:
        releases.outside(out, "--out")
        with disk.guarded(out, "--out"):
            disk.probe(out)
    bad: AccelError | None = None
    with scratch(lambda: bad is not None) as folder:
        plans, requests = _arms(models, engine, data, folder)
        place, kept = out or folder / "bench", out is not None
        progress = None if quiet else lambda text: say(text, err=True)
        if words["scenario"] is None:
            timed = step.bench(
                plans, requests, place, epochs=epochs, seed=words["seed"], progress=progress
            )
            value = timing.arms(timed, kept=kept)
            lines, bad = timing.table(value), trouble(value)
        else:
            value, lines, bad = _loaded(plans, requests, place, epochs, kept, progress, words)
    emit("bench" if words["scenario"] is None else "scenario", value, lines, as_json, bad)


def _without_scenario() -> None:
    """Raise UsageError for words that only a scenario takes."""
    context = click.get_current_context()
    given = [
        f"--{name.replace('_', '-')}"
        for name in SCENARIO_WORDS
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    ]
    if given:
        raise UsageError(
            f"{', '.join(given)}: a scenario takes them, and none was named. "
            f"Add: --scenario {'SingleStream' if given == ['--loadgen'] else 'Server'}"
        )


def _engine_for_some(models: tuple[Path, ...], engine: str) -> None:
    """Raise UsageError for an --engine that no model would be built for."""
    given = click.get_current_context().get_parameter_source("engine")
    if given is not ParameterSource.DEFAULT and all(model.is_dir() for model in models):
        raise UsageError(
            f"--engine {engine} goes with an .onnx; a release brings its own engine. Leave --engine "
            f"out, or name an .onnx beside: accel bench {models[0]} MODEL.onnx --engine {engine}"
        )


def _arms(models: tuple[Path, ...], engine: str, data: str | None, folder: Path) -> tuple[Any, Any]:
    """The plans by name, and the requests of the first model."""
    plans, requests = {}, ()
    for i, model in enumerate(models):
        plan, asked = _arm(model, engine, data, folder / str(i))
        again = f" ({i + 1})" if str(model) in plans else ""  # a model beside itself: A/A
        plans[f"{model}{again}"] = plan
        requests = requests or asked
    return plans, requests


def _loaded(plans: Any, requests: Any, out: Path, epochs: int, kept: bool, progress: Callable[[str], None] | None, words: dict[str, Any]) -> Any:  # fmt: skip
    from accel.report import scenario, scenario_table
    from accel.steps import serve as step

    bound = words["latency_bound"]
    served = step.serve(
        plans,
        requests,
        out,
        scenario=words["scenario"],
        seconds=words["seconds"],
        qps=words["qps"],
        latency_bound_s=bound and bound[0],
        samples_per_query=words["samples_per_query"],
        epochs=epochs,
        seed=words["seed"],
        loadgen=words["loadgen"],
        kept=kept,
        progress=progress,
    )
    found = tuple(scenario.arm(one, served[0], kept) for one in served)
    return found, scenario_table.lines(found), scenario_table.trouble(found)


def _arm(model: Path, engine: str, data: str | None, out: Path) -> tuple[Any, Any]:
    """The plan of a release's winner, or of an .onnx; and --data, else the requests that belong to it."""
    from accel import feeds
    from accel import release as releases

    if not model.is_dir():
        return plan_of(model, engine, "cpu-local", out, data)
    plan = releases.intact(model)
    asked = releases.requests(model) if data is None else feeds.requests(data, plan.model.inputs)
    return plan, asked


def beside_fp32(release: Any, work: Path) -> Any:
    """The release timed beside its fp32 baseline, which lies in the store of finished steps."""
    from accel import release as releases
    from accel.report import timing
    from accel.steps import bench as step

    fp32 = [b for b in release.baselines if b.plan is not None and b.engine != "torch_eager"]
    plans = {b.name: _stored(b.plan, work.absolute() / "store") for b in fp32[-1:]}
    plans["release"] = release.winner.plan
    found: Any = ()
    with scratch(lambda: trouble(found) is not None) as folder:
        timed = step.bench(plans, releases.requests(release.path), folder)
        found = timing.arms(timed, kept=False)
    return found


def _stored(plan: Any, root: Path) -> Any:
    """A release names what it does not hold by its step and file: the plan, at that place."""
    import dataclasses

    model = dataclasses.replace(plan.model, path=root / plan.model.path)
    return dataclasses.replace(plan, path=root / plan.path, model=model)


def trouble(found: Any) -> AccelError | None:
    """What ends a command whose arms broke."""
    from accel.errors import CandidateBroken
    from accel.report import timing

    reasons = timing.broken(found)
    return CandidateBroken(reasons) if reasons else None
