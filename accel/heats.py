"""Arms timed together as one stored step; and the heat, which gives the places in the final.

Screenings are taken minutes apart, and a shared machine changes its speed in between (by half, on
the one this was found on): of several candidates within a few percent, those that had met a quick
minute went on. The rounds of one run are paired, so that all arms see the same minutes.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from accel import disk, stats, store, trials
from accel.job import Job, step
from accel.measure import instrument
from accel.measure.tally import Tally
from accel.scratch import scratch
from accel.values import Candidate, Measurement, Options, Plan, Refusal

ROUNDS, BLOCK_S = 16, 0.05
WARM_CALLS = 200  # passes over the requests until an arm has run about this many calls
MOST_KEPT = (
    2_000_000  # calls in an epoch: at some 50 bytes each the store reads no larger record back
)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gathered of each arm."""

    tallies: tuple[Tally, ...]


class _NotKept(Exception):
    """An epoch that a later run should take again: used, and not stored."""

    def __init__(self, tallies: Sequence[Tally]) -> None:
        super().__init__()
        self.tallies = tallies


@dataclass(frozen=True)
class Timed:
    """What came of one interleaved run: the arms that lived, and those that did not."""

    measured: tuple[Measurement, ...]
    lost: tuple[Refusal, ...]


class _Lossy(Exception):
    """A run in which an arm died, of what may have passed by the next one: used, and not stored."""

    def __init__(self, timed: Timed) -> None:
        super().__init__()
        self.timed = timed


def timed(
    job: Job, verb: str, plans: Mapping[str, Plan], key: Options, **protocol: Any
) -> dict[str, Measurement | Refusal]:
    """All plans timed together: interleaved, in random order, in fresh processes.

    Each epoch is kept as it ends: who is interrupted, or asks for more of them, goes on with the next
    one. `key`: what decides how many there are. An arm that dies is lost in this run alone."""
    drawn = {
        "arms": {name: trials.identity(plan) for name, plan in plans.items()},
        "seed": job.seed,
        **trials.here(job),
    }

    def keep(number: int, arms: Sequence[str], take: instrument.Make) -> Sequence[Tally]:
        def once(_: Path) -> Epoch:
            tallies = tuple(take())
            calls = sum(len(tally.columns["seconds"]) for tally in tallies)
            if calls > MOST_KEPT or not all(map(_is_fit, tallies)):
                raise _NotKept(tallies)
            return Epoch(tallies)

        named = {**drawn, "epoch": number, "alive": list(arms), "versions": job.versions}
        try:  # not in the job's ledger: it is a part of this step, which another run will ask for alone
            kept = store.run(job.work / "store", f"{verb}-epoch", named, Epoch, once)
        except _NotKept as left:
            return left.tallies
        job.ledger.tell_damage(kept)
        return kept.value.tallies

    def make(folder: Path) -> Timed:
        found = instrument.compare(
            [instrument.Arm(n, p) for n, p in plans.items()],
            job.requests,
            folder,
            rounds=ROUNDS,
            block_s=BLOCK_S,
            warmup_calls=max(3, WARM_CALLS // len(job.requests)),
            seed=job.seed,
            keep=keep,
            log=job.log(verb),
            target=job.target,
            **protocol,
        )
        alive = tuple(m for m in found if isinstance(m, Measurement))
        instrument.require_fit(alive)
        done = Timed(alive, tuple(m for m in found if isinstance(m, Refusal)))
        if done.lost:
            raise _Lossy(_aside(done, job.using.enter(scratch())))
        return done

    done = _once(job, verb, {**drawn, **key}, make)
    return {m.arm: m for m in done.measured} | {r.what: r for r in done.lost}


def _once(job: Job, verb: str, key: Options, make: Callable[[Path], Timed]) -> Timed:
    """The step; in one run it is made once, even where it is not stored."""
    name = store.digest_json({"verb": verb, **key})
    if name in job.ledger.unkept:
        return cast("Timed", job.ledger.unkept[name])
    try:
        return step(job, verb, key, Timed, make).value
    except _Lossy as left:
        job.ledger.failed += 1
        job.ledger.unkept[name] = left.timed
        return left.timed


def _aside(found: Timed, place: Path) -> Timed:
    """The same with its samples at another place: the folder of a step that is not stored goes."""
    with disk.guarded(place):
        moved = [
            dataclasses.replace(m, samples=Path(shutil.copy(m.samples, place)))
            for m in found.measured
        ]
    return dataclasses.replace(found, measured=tuple(moved))


def _is_fit(tally: Tally) -> bool:
    """Did the arm live, beside little else?"""
    blocks = len(tally.foreign)
    alone = blocks and instrument.fit(tally.disturbed / blocks, statistics.median(tally.foreign))
    return bool(alone and not tally.dead)


def heat(
    job: Job, contenders: Sequence[Candidate], progress: Callable[[str], None]
) -> dict[str, Candidate]:
    """Contenders with the screening time that one short run of all of them gives: the best one's,
    times how much slower each was in the same rounds. One that died is lost with the reason."""
    plans = {c.name: c.plan for c in contenders if c.plan is not None}
    found = timed(job, "heat", plans, {}, epochs=1, progress=progress)
    alive = [m for m in found.values() if isinstance(m, Measurement)]
    best = min(alive, key=stats.objective) if alive else None
    level = min((c.screen_s for c in contenders if c.screen_s), default=0.0)

    def placed(candidate: Candidate) -> Candidate:
        its = found[candidate.name]
        if isinstance(its, Refusal):
            return trials.lost(candidate, "failed", its.reason)
        assert best is not None  # it is at least this one
        return dataclasses.replace(candidate, screen_s=level * stats.ratio(its, best).point)

    return {c.name: placed(c) for c in contenders}
