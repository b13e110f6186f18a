"""Arms under the load of an MLPerf scenario: what their queries took, and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accel import quantiles
from accel.measure import arrivals, machine, scenarios, serving
from accel.measure import load as company
from accel.measure.loadgen import Verdict
from accel.measure.rates import Rate
from accel.measure.scenarios import Load, Run
from accel.quantiles import Quantile
from accel.report.timing import Ratio
from accel.values import Options

LATE_SHARE = 0.01  # of the median latency: what the loop itself may be late by


@dataclass(frozen=True)
class Generator:
    """How late the loop that serves was by itself, seconds: part of the latency, not the engine's."""

    max_s: float
    p99_s: float | None  # None: the sample does not carry it
    judged: str  # "p99"; the highest that the sample carries where it does not carry that
    share: float  # of the median latency, by `judged`
    fit: bool


@dataclass(frozen=True)
class Arm:
    """What is known of one arm; `reason` says why there is nothing, and is empty otherwise."""

    arm: str
    reason: str = ""
    load: Load | None = None
    queries: int = 0
    unserved: int = 0  # still waiting when the run was given up
    epochs: int = 0
    latency: Mapping[str, Quantile | None] = field(default_factory=dict)  # from the scheduled time
    service_s: float | None = None  # mean of a query from its start to its end
    busy: float | None = None  # share of the time that the server was at work
    samples_per_s: float | None = None  # requests that were served, over the time it took
    own: str = ""  # the percentile that MLPerf reports of the scenario; empty: Offline has none
    early_stopping_s: float | None = None  # MLPerf's estimate of it; None: too few queries
    bound_met: bool | None = None  # MLPerf's rule for Server with a bound
    ratio: Ratio | None = None  # p50, or samples a second, against the first arm; epochs paired
    generator: Generator | None = None
    rate: Rate | None = None
    loadgen: Verdict | None = None
    notes: tuple[str, ...] = ()
    samples: tuple[Path, ...] = ()  # empty: they were not asked to be kept
    machine: Options = field(default_factory=dict)


def arm(served: Any, first: Any, kept: bool) -> Arm:
    """A row from what `steps.serve` found, `first` being the arm that it is compared with."""
    if not hasattr(served, "runs"):
        return Arm(served.what, served.reason)
    if not served.runs:
        return Arm(served.arm, _nothing(served.rate), served.load, rate=served.rate)
    runs: tuple[Run, ...] = served.runs
    asked, data = runs[0].load, [scenarios.columns(run) for run in runs]
    seconds = _joined([scenarios.latencies_s(d) for d in data])
    own = scenarios.OWN_QUANTILE.get(asked.scenario)
    waiting = int((seconds == math.inf).sum())
    generator, busy = _generator(data, seconds), _busy(data)
    refused = getattr(served.loadgen, "reason", "")
    return Arm(
        served.arm,
        load=served.load,
        queries=len(seconds),
        unserved=waiting,
        epochs=len(runs),
        latency=quantiles.named(seconds),
        service_s=_service_s(data),
        busy=busy,
        samples_per_s=_samples_per_s(data),
        own=f"p{100 * own:g}" if own else "",
        early_stopping_s=_finite(quantiles.early_stopping(seconds, own)) if own else None,
        bound_met=_bound_met(seconds, asked.bound_s),
        ratio=ratio(getattr(first, "runs", ()), runs),
        generator=generator,
        rate=served.rate,
        loadgen=None if refused else served.loadgen,
        notes=(
            *_notes(runs, waiting, len(seconds), generator),
            *_cut(asked, data),
            *([refused] if refused else []),
        ),
        samples=tuple(run.samples for run in runs) if kept else (),
        machine=runs[0].machine,
    )


def ratio(first: Sequence[Run], runs: Sequence[Run]) -> Ratio | None:
    """How many times as fast as the first arm: the p50 of latency, samples a second for Offline.

    Epochs are paired and each is a process of its own: the interval is Student's t over their
    logarithms. None without two epochs of both, or where a median query was never served; and
    where the two were driven at rates of their own."""
    import numpy as np
    from scipy.stats import t

    pairs = list(zip(first, runs, strict=False))
    if len(pairs) < 2 or pairs[0][0].load.qps != pairs[0][1].load.qps:
        return None
    logs = np.asarray([_pace(b) - _pace(a) for a, b in pairs])
    if not np.isfinite(logs).all():
        return None
    reach = t.ppf(0.975, len(logs) - 1) * float(np.std(logs, ddof=1)) / len(logs) ** 0.5
    middle = float(logs.mean())
    return Ratio(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach))


def _pace(run: Run) -> float:
    """The logarithm of what is more where an arm is faster."""
    import numpy as np

    data = scenarios.columns(run)
    if run.load.scenario == "Offline":
        return math.log(_samples_per_s([data]) or math.nan)
    middle = float(np.median(scenarios.latencies_s(data)))
    return -math.log(middle) if math.isfinite(middle) else math.nan


def _joined(parts: Sequence[Any]) -> Any:
    import numpy as np

    return np.concatenate(parts)


def _served(data: Mapping[str, Any]) -> tuple[Any, Any]:
    """Start and end (ns) of the queries that were served."""
    served = data["ended_ns"] >= 0
    return data["started_ns"][served], data["ended_ns"][served]


def _service_s(data: Sequence[Mapping[str, Any]]) -> float | None:
    spent = _joined([end - start for start, end in map(_served, data)])
    return float(spent.mean()) * 1e-9 if len(spent) else None


def _busy(data: Sequence[Mapping[str, Any]]) -> float | None:
    """Time at work over the time from a run's start to its last end."""
    runs = [(int((end - start).sum()), int(end[-1])) for start, end in map(_served, data) if len(end)]  # fmt: skip
    return sum(work for work, _ in runs) / sum(whole for _, whole in runs) if runs else None


def _samples_per_s(data: Sequence[Mapping[str, Any]]) -> float | None:
    """Samples served over the time from a run's start to its last end."""
    ends = [(len(end) * d["request"].shape[1], int(end[-1])) for d in data for _, end in [_served(d)] if len(end)]  # fmt: skip
    return sum(n for n, _ in ends) / (1e-9 * sum(ns for _, ns in ends)) if ends else None


def _generator(data: Sequence[dict[str, Any]], seconds: Any) -> Generator | None:
    import numpy as np

    late = _joined([scenarios.lateness_s(d) for d in data])
    if not len(late):
        return None
    found, middle = quantiles.named(late), float(np.median(seconds))
    carried = [(name, x.value_s) for name, x in found.items() if x is not None and name != "p99.9"]
    judged, worst = carried[-1] if carried else ("max", float(late.max()))
    p99, share = found["p99"], worst / middle
    fit = share <= LATE_SHARE
    return Generator(float(late.max()), p99.value_s if p99 else None, judged, share, fit)


def _bound_met(seconds: Any, bound_s: float | None) -> bool | None:
    if bound_s is None:
        return None
    return quantiles.bound_met(int((seconds > bound_s).sum()), len(seconds), 0.99)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _nothing(rate: Rate | None) -> str:
    if rate is None:
        return "it was never run"
    least = min((one.qps for one in rate.tries), default=0.0)
    return (
        f"no rate kept p99 inside {rate.bound_s * 1e3:g} ms: {len(rate.tries)} runs, down to "
        f"{least:.4g} queries/s. Allow more with --latency-bound, or choose a faster model."
    )


def _cut(asked: Load, data: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Whether a run ended early because no more queries are kept."""
    most = max(len(d["request"]) for d in data)
    if most not in (serving.CAPACITY, arrivals.MOST):
        return ()
    return (f"a run ended at {most} queries, before its {asked.seconds:g} s: no more are kept",)


def _notes(
    runs: Sequence[Run], waiting: int, queries: int, generator: Generator | None
) -> tuple[str, ...]:
    """What a reader must know before believing the numbers."""
    notes, asked = [], runs[0].load
    if waiting:
        notes.append(
            f"{waiting} of {queries} queries were never served within {scenarios.LIMIT:g} times the "
            f"time: the rate is beyond what one session serves. Choose a lower --qps."
        )
    if generator is not None and not generator.fit:
        notes.append(
            f"the loop itself was late by {generator.share:.1%} of the median latency at its "
            f"{generator.judged} (allowed: {LATE_SHARE:.0%}): the latencies are the loop's in part, "
            f"not the engine's alone"
        )
    foreign = [run.foreign_cores for run in runs]
    if any(company.disturbed(f, asked.seconds, machine.cores()) for f in foreign):
        notes.append(
            f"other processes used up to {max(foreign):.2f} cores meanwhile (allowed: "
            f"{company.LIMIT_CORES}): stop them (see: top) and rerun"
        )
    return tuple(notes)
