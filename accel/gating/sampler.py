"""One epoch: fresh processes of every arm, interleaved in rounds whose order a coin decides.

An epoch re-rolls all that a process start fixes: each arm's files are copied to a new place under
a random name of one length (page placement, path effects), processes start in random order, and an
arm that is not being timed is stopped, since idle runtimes spin on. Nothing is filtered: who else
used the processor is recorded beside the samples, and medians carry what is left.
"""

from __future__ import annotations

import hashlib
import math
import random
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from accel import arrays
from accel.errors import AccelError, CandidateBroken, EnvironmentProblem, NoBaseline
from accel.evidence import BASELINE, REFERENCE, SHADOW, Epoch, Rules, Subject
from accel.gating import copies, devices, readings
from accel.gating.readings import Taken
from accel.measure import load
from accel.measure.worker import Worker
from accel.values import Plan, Request

HARNESS = (
    "gating/sampler.py", "gating/readings.py", "gating/copies.py", "gating/devices.py",
    "measure/worker.py", "measure/process.py", "measure/child.py", "measure/load.py",
    "measure/limits.py", "arrays.py",
)  # fmt: skip
THEIRS = (BASELINE, SHADOW, REFERENCE)  # arms whose failure is no fault of the candidate
FIRST_PASSES = 2  # of a warm-up: the second tells how long a pass is
LEAST_ROUNDS = 5  # a median of fewer forgives no disturbed round beside another


@dataclass(frozen=True)
class _Live:
    """An arm's process of this epoch, and where its samples go."""

    name: str
    plan: Plan
    worker: Worker
    taken: Taken


@dataclass(frozen=True)
class _Effort:
    """How much is run in an epoch, alike for every arm."""

    warmup_passes: int  # behind the first ones
    rounds: int


def epoch(
    number: int,
    arms: Mapping[str, Subject],
    requests: Sequence[Request],
    rules: Rules,
    folder: Path,
    lag: Mapping[str, float] | None = None,
    tails: Collection[str] = (),
) -> Epoch:
    """Time `arms` (arm -> subject, BASELINE among them) once, in fresh processes.

    Every call is kept in folder/"epoch-<number>.npz". `lag`: arm -> the share by which each of its
    calls is stretched with a spin; it validates the gate, and is never part of one. `tails`: groups
    of which every arm makes the calls of a p99, however long its blocks then are.
    Raises NoBaseline when the baseline, its shadow or the reference breaks, CandidateBroken when
    another arm does."""
    began = time.monotonic()
    coin = random.Random(f"{folder.name}/{rules.seed}/{number}")  # every comparison has its own
    order = coin.sample(list(arms), len(arms))
    taken = {arm: Taken() for arm in arms}
    together = copies.fit_together(arms.values())
    together = together and devices.fit(arms.values(), folder / "device.log")
    teams = [order] if together else [[arm] for arm in order]
    effort = None
    copies.sweep(folder)
    with tempfile.TemporaryDirectory(prefix=copies.PREFIX, dir=folder) as place:
        feeds = Path(place, "requests.npz")
        arrays.save(feeds, (r.inputs for r in requests))
        for team in teams:
            with _started({a: arms[a] for a in team}, taken, feeds, coin) as live:
                pass_s = _load(live, feeds, lag or {})
                effort = effort or _effort(rules, pass_s)
                _warm(live, effort.warmup_passes)
                blocks = _blocks(requests, effort.rounds, tails)
                _rounds(live, blocks, effort.rounds, rules.block_s, coin)
                _peaks(live)
    name = f"epoch-{number:05d}.npz"
    return Epoch(
        number=number,
        samples=name,
        samples_digest=readings.save(folder / name, taken),
        order=tuple(order),
        covariates={**readings.covariates(taken), "together": float(together)},
        seconds=time.monotonic() - began,
        **readings.told(taken, requests),
    )


@contextmanager
def _started(
    arms: Mapping[str, Subject], taken: Mapping[str, Taken], feeds: Path, coin: random.Random
) -> Iterator[list[_Live]]:
    """A process an arm, its engine imported: imports run side by side, nothing is timed yet."""
    with ExitStack() as stack:
        live = []
        for arm, subject in arms.items():
            with _blamed(arm):
                plan = copies.copied(subject, feeds.parent, coin)
            log = feeds.parents[1] / f"{arm}.log"
            log.unlink(missing_ok=True)  # of the epoch before
            worker = stack.enter_context(Worker(arm, log))
            live.append(_Live(arm, plan, worker, taken[arm]))
        for one in live:
            with _blamed(one.name):
                one.worker.ask("prepare", engine=one.plan.engine)
        yield live


def _load(live: Sequence[_Live], feeds: Path, lag: Mapping[str, float]) -> float:
    """Load and make the first passes; seconds of a pass, of the slowest arm."""
    slowest_s = 0.0
    for one in live:
        with _blamed(one.name, live):
            one.taken.load_s, one.taken.cold_s = one.worker.load(one.plan, feeds)
            if lag.get(one.name):
                one.worker.ask("lag", share=lag[one.name])
            slowest_s = max(slowest_s, one.worker.ask("warm", count=FIRST_PASSES))
            one.worker.stop()
    return slowest_s


def _effort(rules: Rules, pass_s: float) -> _Effort:
    """Where a pass is long, a round holds many calls, and fewer rounds say as much."""
    passes = math.ceil(rules.timed_s / max(pass_s, 1e-9))
    rounds = min(rules.rounds, max(LEAST_ROUNDS, passes))
    return _Effort(max(0, min(rules.warmup_calls, passes) - FIRST_PASSES), rounds)


def _warm(live: Sequence[_Live], passes: int) -> None:
    for one in live if passes else ():
        with _blamed(one.name, live):
            one.worker.resume()
            one.worker.ask("warm", count=passes)
            one.worker.stop()


def _blocks(
    requests: Sequence[Request], rounds: int, tails: Collection[str]
) -> list[tuple[tuple[int, ...], int]]:
    """Indexes of the requests of each group, and the calls that its blocks have at least."""
    groups, least = readings.groups(requests), math.ceil(readings.P99_CALLS / rounds)
    return [(own, least if requests[own[0]].group in tails else 1) for own in groups]


def _rounds(
    live: Sequence[_Live],
    blocks: Sequence[tuple[tuple[int, ...], int]],
    rounds: int,
    block_s: float,
    coin: random.Random,
) -> None:
    for number in range(rounds):
        for one in coin.sample(list(live), len(live)):
            with _blamed(one.name, live):
                one.worker.resume()
                for first, (indexes, least) in enumerate(blocks):
                    before = load.now()
                    block = one.worker.block(indexes, block_s, awake=first > 0, least=least)
                    one.taken.add(
                        number, block, load.foreign_cores(before, load.now(), block.own_s)
                    )
                one.worker.stop()


def _peaks(live: Sequence[_Live]) -> None:
    for one in live:
        with _blamed(one.name):
            one.worker.resume()
            one.taken.peak_bytes = one.worker.ask("memory")


@contextmanager
def _blamed(arm: str, live: Sequence[_Live] = ()) -> Iterator[None]:
    """Whose fault is it? A full disk and a missing library are the machine's and pass through.
    `live`: all that were started, some of which may fill a device together."""
    try:
        yield
    except EnvironmentProblem:
        raise
    except AccelError as error:
        said = devices.named(str(error), [one.plan for one in live])
        if arm in THEIRS:
            raise NoBaseline(f"The {arm} does not run here: {said}") from None
        raise CandidateBroken(said) from None


def harness() -> str:
    """Digest of the code that measures or is timed: epochs of another are never added to these."""
    root = Path(__file__).parents[1]
    total = hashlib.sha256()
    engines = (p.relative_to(root).as_posix() for p in sorted(root.glob("engines/*.py")))
    for name in (*HARNESS, *engines):
        total.update(name.encode() + (root / name).read_bytes())
    return total.hexdigest()[:20]
