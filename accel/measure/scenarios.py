"""MLPerf's scenarios in fresh processes: what load comes, who serves it, and when each query ended.

SingleStream: one query behind the other. MultiStream: the same with queries of several samples.
Server: Poisson arrivals, whether or not the server keeps up. Offline: all queries are there at
once. (Names as in MLPerf Inference, Reddi et al., ISCA 2020, section IV-B.) A latency runs from
the scheduled arrival to the end of the query, so that waiting in the queue is part of it.

An epoch is a process of its own for every arm, one after the other, in an order by coin.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from accel import arrays
from accel.errors import AccelError, concerns_all
from accel.measure import arrivals, load, machine
from accel.measure import loadgen as lg
from accel.measure.instrument import Arm, Progress
from accel.measure.worker import TIMEOUT_S, Worker
from accel.values import Options, Refusal, Request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Scenario = Literal["SingleStream", "MultiStream", "Server", "Offline"]
OWN_QUANTILE = {"SingleStream": 0.9, "MultiStream": 0.99, "Server": 0.99}  # that MLPerf reports
LIMIT = 3.0  # of the planned time, after which waiting queries of an open loop are left unserved
CYCLE = 4096  # queries drawn for a closed loop, then again from the first
LIBRARY = 1024  # samples that LoadGen draws from


@dataclass(frozen=True)
class Load:
    """What comes in one run."""

    scenario: Scenario
    seconds: float = 10.0
    qps: float | None = None  # Server: the mean rate of arrivals
    bound_s: float | None = None  # Server: what p99 must keep inside
    samples_per_query: int = 8  # MultiStream: LoadGen's default
    least: int = 0  # Server: queries that must come, however long it takes
    warmup_calls: int = 10
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """One process under load.

    `samples`: an .npz of scheduled_ns, started_ns, ended_ns [Q], from the run's start (-1: it was
    never served), and request [Q, K]."""

    arm: str
    epoch: int
    load: Load
    samples: Path
    call_s: float  # mean of a call in the pilot before it, weighted over requests
    load_s: float
    cold_s: float
    threads: int  # of the plan; 0: it does not say
    foreign_cores: float  # that others kept busy meanwhile
    machine: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where the runs of an arm are made: its requests, a folder, what its files are called."""

    requests: Path
    weights: tuple[float, ...]
    out: Path
    stem: str


def places(arms: Sequence[Arm], requests: Sequence[Request], out: Path) -> tuple[Place, ...]:
    """One for each arm; writes the requests."""
    out.mkdir(parents=True, exist_ok=True)
    path, weights = out / "requests.npz", tuple(r.weight for r in requests)
    arrays.save(path, (r.inputs for r in requests))
    names = ["".join(c if c.isalnum() or c in "._-" else "_" for c in a.name)[-80:] for a in arms]
    return tuple(Place(path, weights, out, f"{i:02d}-{name}") for i, name in enumerate(names))


def compare(
    arms: Sequence[Arm],
    places: Sequence[Place],
    loads: Sequence[Load],
    *,
    epochs: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[tuple[Run, ...] | Refusal, ...]:
    """Every arm's runs under its load, one an epoch; a Refusal with the reason for one that broke.

    In an epoch all arms see arrivals of the same seed; each epoch has its own."""
    coin, dead = random.Random(seed), dict[int, str]()
    runs: dict[int, list[Run]] = {i: [] for i in range(len(arms))}
    for epoch in range(epochs):
        order = [i for i in runs if i not in dead]
        coin.shuffle(order)
        for i in order:
            load_now = replace(loads[i], seed=loads[i].seed + epoch)
            if progress is not None:
                progress(f"{says(load_now)}: {arms[i].name}, epoch {epoch + 1} of {epochs}")
            try:
                runs[i].append(run(arms[i], places[i], load_now, epoch))
            except AccelError as error:
                if concerns_all(error):
                    raise
                dead[i] = str(error)
    return tuple(
        Refusal(arm.name, dead[i]) if i in dead else tuple(runs[i]) for i, arm in enumerate(arms)
    )


def says(load: Load) -> str:
    """A load in a few words."""
    rate = f" at {load.qps:.4g} queries/s" if load.qps is not None else ""
    seconds = max(load.seconds, load.least / load.qps) if load.qps else load.seconds
    return f"{load.scenario}{rate}, {seconds:.4g} s"


def run(
    arm: Arm, place: Place, asked: Load, epoch: int, mark: str = "", futile_s: float = 0.0
) -> Run:
    """One fresh process under this load. An interrupt leaves what was served so far in its file.

    `futile_s`: a bound on p99; the run ends once p99 cannot keep inside it.
    Raises CandidateBroken when the plan does not load, crashes or hangs."""
    import numpy as np

    samples = place.out / f"{place.stem}.{asked.scenario}{mark}.{epoch}.npz"
    with (
        tempfile.TemporaryDirectory(prefix="accel-") as folder,
        Worker(arm.name, place.out / f"{place.stem}.log") as worker,
    ):
        plan = Path(folder, "plan.npz")
        load_s, cold_s = worker.load(arm.plan, place.requests)
        worker.ask("warm", count=asked.warmup_calls)
        call_s = _apply(worker, "serving:pilot", TIMEOUT_S, weights=place.weights)
        scheduled, picks = schedule(asked, place.weights, call_s)
        np.savez(plan, scheduled_ns=scheduled, picks=picks)
        limit_s = LIMIT * max(asked.seconds, float(scheduled[-1]) * 1e-9 if len(scheduled) else 0)
        before = load.now()
        found = _apply(
            worker, "serving:serve", limit_s + TIMEOUT_S, plan=plan,
            out=samples.absolute(), seconds=asked.seconds, limit_s=limit_s, futile_s=futile_s,
        )  # fmt: skip
        foreign = load.foreign_cores(before, load.now(), found["own_s"])
    threads = int(arm.plan.options.get("threads", 0))
    return Run(arm.name, epoch, asked, samples, call_s, load_s, cold_s, threads, foreign, machine.fingerprint())  # fmt: skip


def schedule(
    asked: Load, weights: Sequence[float], call_s: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Arrivals [Q] in ns, none for a closed loop, and the requests of each query [Q, K].

    Offline has as many queries as fill the time at the pilot's `call_s`."""
    import numpy as np

    if asked.scenario == "Server":
        times = arrivals.poisson_ns(asked.qps or 0.0, asked.seconds, asked.seed, asked.least)
    elif asked.scenario == "Offline":
        times = np.zeros(min(arrivals.MOST, max(1, round(asked.seconds / call_s))), np.int64)
    else:
        times = np.zeros(0, np.int64)
    samples = asked.samples_per_query if asked.scenario == "MultiStream" else 1
    return times, arrivals.picks(weights, len(times) or CYCLE, samples, asked.seed)


def through_loadgen(arm: Arm, place: Place, asked: Load, kept: bool) -> lg.Verdict | Refusal:
    """The same scenario in LoadGen, in a fresh process; a Refusal where the arm broke."""
    out = place.out / f"{place.stem}.{asked.scenario}.loadgen"
    out.mkdir(parents=True, exist_ok=True)
    try:
        with Worker(arm.name, place.out / f"{place.stem}.log") as worker:
            worker.load(arm.plan, place.requests)
            worker.ask("warm", count=asked.warmup_calls)
            call_s = _apply(worker, "serving:pilot", TIMEOUT_S, weights=place.weights)
            library = arrivals.picks(place.weights, LIBRARY, 1, asked.seed)[:, 0].tolist()
            _apply(
                worker, "loadgen:serve", LIMIT * asked.seconds + TIMEOUT_S, out=out.absolute(),
                picks=library, scenario=asked.scenario, seconds=asked.seconds, qps=asked.qps,
                bound_s=asked.bound_s, samples_per_query=asked.samples_per_query, call_s=call_s,
                seed=asked.seed,
            )  # fmt: skip
        return lg.read(out, kept, asked.scenario != "Server" or asked.bound_s is not None)
    except AccelError as error:
        if concerns_all(error):
            raise
        return Refusal(f"{arm.name} in LoadGen", str(error))


def columns(found: Run) -> dict[str, NDArray[Any]]:
    """scheduled_ns, started_ns, ended_ns [Q] and request [Q, K], int64."""
    import numpy as np

    with np.load(found.samples, allow_pickle=False) as data:
        return {name: data[name] for name in ("scheduled_ns", "started_ns", "ended_ns", "request")}


def latencies_s(data: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """From each query's scheduled arrival to its end [Q]; infinite where it was never served."""
    import numpy as np

    seconds: NDArray[np.float64] = (data["ended_ns"] - data["scheduled_ns"]) * 1e-9
    return np.where(data["ended_ns"] < 0, np.inf, seconds)


def lateness_s(data: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """What the loop itself was late with each query that was served [Q']: from when it was due and
    the server was free to its start. It is part of the latency, and is none of the engine's."""
    import numpy as np

    served = data["ended_ns"] >= 0
    due, started, ended = (data[f"{n}_ns"][served] for n in ("scheduled", "started", "ended"))
    free = np.concatenate([due[:1], ended[:-1]])
    found: NDArray[np.float64] = (started - np.maximum(due, free)) * 1e-9
    return found


def _apply(worker: Worker, function: str, timeout_s: float, **words: Any) -> Any:
    """Run a function of this package on the worker's calls; what interrupts the wait ends it early
    first, so that its samples are kept."""
    try:
        return worker.ask("apply", timeout_s, function=f"accel.measure.{function}", words=words)
    except BaseException as error:
        if not isinstance(error, Exception):
            worker.cut_short()
        raise
