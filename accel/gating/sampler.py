"""One epoch: fresh processes of every arm, interleaved in rounds whose order a coin decides.

An epoch re-rolls all that a process start fixes: each arm's files are copied to a new place under
a random name of one length (page placement, path effects), processes start in random order, and an
arm that is not being timed is stopped, since idle runtimes spin on. Nothing is filtered: who else
used the processor is recorded beside the samples, and medians carry what is left.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from accel import arrays
from accel.errors import AccelError, CandidateBroken, NoBaseline, concerns_all
from accel.evidence import BASELINE, REFERENCE, SHADOW, Epoch, Rules, Subject
from accel.gating import copies, readings
from accel.gating.readings import Taken
from accel.measure import load
from accel.measure.worker import Worker
from accel.values import Plan, Request

HARNESS = (
    "gating/sampler.py", "gating/readings.py", "gating/copies.py",
    "measure/worker.py", "measure/process.py", "measure/child.py", "measure/load.py", "arrays.py",
)  # fmt: skip
THEIRS = (BASELINE, SHADOW, REFERENCE)  # arms whose failure is no fault of the candidate


@dataclass(frozen=True)
class _Live:
    """An arm's process of this epoch, and where its samples go."""

    name: str
    plan: Plan
    worker: Worker
    taken: Taken


def epoch(
    number: int,
    arms: Mapping[str, Subject],
    requests: Sequence[Request],
    rules: Rules,
    folder: Path,
    lag: Mapping[str, float] | None = None,
) -> Epoch:
    """Time `arms` (arm -> subject, BASELINE among them) once, in fresh processes.

    Every call is kept in folder/"epoch-<number>.npz". `lag`: arm -> the share by which each of its
    calls is stretched with a spin; it validates the gate, and is never part of one.
    Raises NoBaseline when the baseline, its shadow or the reference breaks, CandidateBroken when
    another arm does."""
    began = time.monotonic()
    coin = random.Random(f"{folder.name}/{rules.seed}/{number}")  # every comparison has its own
    order = coin.sample(list(arms), len(arms))
    taken = {arm: Taken() for arm in arms}
    together = copies.fit_together(arms.values())
    teams = [order] if together else [[arm] for arm in order]
    copies.sweep(folder)
    with tempfile.TemporaryDirectory(prefix=copies.PREFIX, dir=folder) as place:
        feeds = Path(place, "requests.npz")
        arrays.save(feeds, (r.inputs for r in requests))
        for team in teams:
            with _started({a: arms[a] for a in team}, taken, feeds, coin) as live:
                _load(live, feeds, rules, lag or {})
                _rounds(live, readings.groups(requests), rules, coin)
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


def _load(live: Sequence[_Live], feeds: Path, rules: Rules, lag: Mapping[str, float]) -> None:
    for one in live:
        with _blamed(one.name):
            one.taken.load_s, one.taken.cold_s = one.worker.load(one.plan, feeds)
            if lag.get(one.name):
                one.worker.ask("lag", share=lag[one.name])
            one.worker.ask("warm", count=rules.warmup_calls)
            one.worker.stop()


def _rounds(
    live: Sequence[_Live], groups: Sequence[tuple[int, ...]], rules: Rules, coin: random.Random
) -> None:
    for number in range(rules.rounds):
        for one in coin.sample(list(live), len(live)):
            with _blamed(one.name):
                one.worker.resume()
                for first, indexes in enumerate(groups):
                    before = load.now()
                    block = one.worker.block(indexes, rules.block_s, awake=first > 0)
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
def _blamed(arm: str) -> Iterator[None]:
    """Whose fault is it? A full disk is the machine's and passes through."""
    try:
        yield
    except AccelError as error:
        if concerns_all(error):
            raise
        if arm in THEIRS:
            raise NoBaseline(f"The {arm} does not run here: {error}") from None
        raise CandidateBroken(str(error)) from None


def harness() -> str:
    """Digest of the code that measures or is timed: epochs of another are never added to these."""
    root = Path(__file__).parents[1]
    total = hashlib.sha256()
    engines = (p.relative_to(root).as_posix() for p in sorted(root.glob("engines/*.py")))
    for name in (*HARNESS, *engines):
        total.update(name.encode() + (root / name).read_bytes())
    return total.hexdigest()[:20]
