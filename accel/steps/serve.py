"""Put plans under the load of an MLPerf scenario: the verb around `measure.scenarios`."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accel import quantiles
from accel.errors import AccelError, UsageError, concerns_all
from accel.measure import arrivals, rates, scenarios
from accel.measure import loadgen as lg
from accel.measure.instrument import Arm, Progress
from accel.measure.rates import Rate
from accel.measure.scenarios import Load, Place, Run, Scenario
from accel.steps.bench import arms_of
from accel.values import Plan, Refusal, Request


@dataclass(frozen=True)
class Served:
    """What became of one plan under load: its runs, none where no rate kept inside the bound."""

    arm: str
    load: Load
    runs: tuple[Run, ...]
    rate: Rate | None = None  # of the search, where a bound was given and no rate
    loadgen: lg.Verdict | Refusal | None = None  # None: it was not asked for


def serve(
    plans: Sequence[Plan] | Mapping[str, Plan],
    requests: Sequence[Request],
    out: Path,
    *,
    scenario: Scenario,
    seconds: float = 10.0,
    qps: float | None = None,
    latency_bound_s: float | None = None,
    samples_per_query: int = 8,
    epochs: int = 3,
    warmup_calls: int = 10,
    seed: int = 0,
    loadgen: bool = False,
    kept: bool = True,
    progress: Progress | None = None,
) -> tuple[Served | Refusal, ...]:
    """Each plan under the load, in order; a Refusal with the reason for one that broke.

    Server wants `qps`, or `latency_bound_s` alone: then each plan is driven at the largest rate
    found to keep p99 inside it. `epochs`: fresh processes of each plan, of `seconds` each.
    `kept`: `out` stays. Raises UsageError for words that do not go together, MissingExtra where
    LoadGen is asked for and not installed."""
    _together(scenario, seconds, qps, latency_bound_s, samples_per_query)
    if not plans or not requests:
        raise UsageError(
            f"There is nothing to serve: {len(plans)} plans and {len(requests)} requests were given,"
            f" at least one of each is needed."
        )
    if loadgen:
        lg.require()
    arms = arms_of(plans)
    places = scenarios.places(arms, requests, out)
    if seed < 0:
        raise UsageError(f"seed: {seed} was given; 0 is the least.")
    load = Load(scenario, seconds, qps, latency_bound_s, samples_per_query, 0, warmup_calls, seed)
    searching = latency_bound_s is not None and qps is None
    found = [_search(a, p, load, progress) if searching else None for a, p in zip(arms, places, strict=True)]  # fmt: skip
    loads = [replace(load, qps=f.qps) if isinstance(f, Rate) else load for f in found]
    ready = [i for i, f in enumerate(found) if f is None or (isinstance(f, Rate) and f.qps)]
    runs = scenarios.compare(
        [arms[i] for i in ready],
        [places[i] for i in ready],
        [loads[i] for i in ready],
        epochs=epochs,
        seed=seed,
        progress=progress,
    )
    by_arm = dict(zip(ready, runs, strict=True))
    return tuple(
        _served(arms[i], places[i], loads[i], by_arm.get(i, ()), found[i], loadgen, kept, progress)
        for i in range(len(arms))
    )


def _served(
    arm: Arm,
    place: Place,
    load: Load,
    runs: tuple[Run, ...] | Refusal,
    rate: Rate | Refusal | None,
    loadgen: bool,
    kept: bool,
    progress: Progress | None,
) -> Served | Refusal:
    if isinstance(rate, Refusal) or isinstance(runs, Refusal):
        return rate if isinstance(rate, Refusal) else Refusal(arm.name, getattr(runs, "reason", ""))
    if not loadgen or not runs:
        return Served(arm.name, load, runs, rate)
    if progress is not None:
        progress(f"{scenarios.says(load)}, in LoadGen: {arm.name}")
    return Served(arm.name, load, runs, rate, scenarios.through_loadgen(arm, place, load, kept))


def _search(arm: Arm, place: Place, load: Load, progress: Progress | None) -> Rate | Refusal:
    """The largest rate of one plan; every run of it is a fresh process with arrivals of its own."""
    assert load.bound_s is not None

    def p99_s(qps: float, number: int) -> float | None:
        asked = replace(load, qps=qps, least=rates.QUERIES, seed=load.seed + 1000 + number)
        if progress is not None:
            progress(f"{scenarios.says(asked)}: {arm.name}, run {number + 1} of the search")
        found = scenarios.run(arm, place, asked, number, ".search", futile_s=load.bound_s or 0.0)
        own = quantiles.carried(scenarios.latencies_s(scenarios.columns(found)), 0.99)
        return own.value_s if own is not None else None

    try:
        probe = replace(load, scenario="SingleStream", seconds=min(load.seconds, 2.0), qps=None)
        alone = scenarios.columns(scenarios.run(arm, place, probe, 0, mark=".probe"))
        served_s = float((alone["ended_ns"] - alone["started_ns"]).mean()) * 1e-9
        return rates.largest(p99_s, 1 / served_s, load.bound_s)
    except AccelError as error:
        if concerns_all(error):
            raise
        return Refusal(arm.name, str(error))


def _together(
    scenario: str, seconds: float, qps: float | None, bound_s: float | None, samples: int
) -> None:
    """Raise UsageError for words that do not go together."""
    known = typing.get_args(Scenario)
    if scenario not in known:
        raise UsageError(f"No scenario {scenario!r}. Known: {', '.join(known)}.")
    if scenario == "Server" and qps is None and bound_s is None:
        raise UsageError(
            "Server needs a rate of arrivals, or a bound on p99 to find the largest: "
            "--qps 50, or --latency-bound 20ms"
        )
    if scenario != "Server" and (qps is not None or bound_s is not None):
        raise UsageError(
            f"{scenario} has no rate of arrivals: --qps and --latency-bound go with Server."
        )
    for name, value in (("seconds", seconds), ("qps", qps), ("latency bound", bound_s)):
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{name}: {value:g} was given; above 0 is needed.")
    if qps is not None:
        arrivals.require(qps, seconds)
    if samples < 1:
        raise UsageError(f"samples per query: {samples} was given; 1 is the least.")
