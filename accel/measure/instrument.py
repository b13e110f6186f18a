"""The instrument: arms timed side by side, interleaved, in fresh processes, every sample kept.

`call` < `block` (back-to-back calls of one arm on one request group) < `round` (every arm's blocks,
arms in random order) < `epoch` (fresh processes). An epoch is the unit of replication: process
start-up fixes page placement and thread placement, which no number of calls averages out. The
order of arms is drawn anew each round: a fixed order turns drift into a difference between arms.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import arrays
from accel.errors import AccelError, InstrumentUnfit, concerns_all
from accel.measure import limits, load, machine
from accel.measure.tally import Tally, measurement
from accel.measure.worker import Block, Worker
from accel.values import Measurement, Plan, Refusal, Request, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

RETAKES = 2  # of one disturbed block
GIVE_UP_SHARE = 0.5  # once most blocks are disturbed, retaking only costs time
WORKER_BYTES = 250 << 20  # interpreter, runtime and arena of a small model
UNFIT_SHARE = 0.8
Progress = Callable[[str], None]
Found = tuple[Measurement | Refusal, ...]
Make = Callable[[], Sequence[Tally]]
Keep = Callable[[int, Sequence[str], Make], Sequence[Tally]]  # (epoch, arms, make) -> each arm's


@dataclass(frozen=True)
class Arm:
    """One thing to time."""

    name: str
    plan: Plan


@dataclass(frozen=True)
class _Setup:
    """What stays the same through a comparison."""

    requests: Path
    groups: tuple[tuple[int, ...], ...]  # indexes of the requests in each group
    rounds: int
    block_s: float
    warmup_calls: int
    out: Path
    seed: int
    log: Path | None = None
    target: Target | None = None


def compare(
    arms: Sequence[Arm],
    requests: Sequence[Request],
    out: Path,
    *,
    epochs: int = 3,
    most_epochs: int | None = None,
    enough: Callable[[Found], bool] | None = None,
    rounds: int = 10,
    block_s: float = 0.1,
    warmup_calls: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
    memory_bytes: int | None = None,
    keep: Keep | None = None,
    log: Path | None = None,
    target: Target | None = None,
) -> Found:
    """Every arm's samples, in the arms' order; a Refusal, with the reason, for an arm that died.

    `out` is a folder. A block beside which others used the processor is taken again and the
    quietest is kept; the rule never sees a latency. After `epochs`, more are run, up to
    `most_epochs`, until `enough` says of all that was found so far that it suffices.
    `warmup_calls`: passes over all requests before the first round, the same for every arm but for one
    that is so slow that fewer must do (`process.WARM_S`).
    `memory_bytes` (default: what is free now) decides whether all arms are loaded at once or one
    after another inside each epoch. `progress` gets a line of text before each epoch. `keep` makes an
    epoch, or knows it from an earlier run: each is drawn from the seed and its number alone. What arms
    print goes to "<stem of log>-<arm>.log", in `out` without `log`. `target`: whose memory they have."""
    setup = _setup(requests, rounds, block_s, warmup_calls, out, seed)
    setup = replace(setup, log=log, target=target)
    tallies = [Tally() for _ in arms]
    together = _fit_together(arms, memory_bytes)
    if not together and progress is not None:
        progress(
            "the arms do not fit in memory together: each runs its rounds alone, in minutes of its own"
        )
    most = max(epochs, most_epochs or 0)
    found: Found = ()
    for epoch in range(most):
        if epoch >= epochs and (enough is None or enough(found)):
            break
        if progress is not None:
            progress(f"epoch {epoch + 1} of {epochs if epoch < epochs else f'at most {most}'}")
        alive = {i: arm for i, arm in enumerate(arms) if not tallies[i].dead}
        make = partial(_taken, setup, alive, epoch, together)
        parts = make() if keep is None else keep(epoch, [a.name for a in alive.values()], make)
        for i, part in zip(alive, parts, strict=True):
            tallies[i].join(part)
        found = _found(setup, arms, tallies, requests)
    return found


def _found(
    setup: _Setup, arms: Sequence[Arm], tallies: Sequence[Tally], requests: Sequence[Request]
) -> Found:
    return tuple(
        Refusal(arm.name, tally.dead)
        if tally.dead
        else measurement(
            arm.name, setup.out / f"{_file(i, arm)}.npz", tally, setup.warmup_calls, requests
        )
        for i, (arm, tally) in enumerate(zip(arms, tallies, strict=True))
    )


def columns(measurement: Measurement) -> dict[str, NDArray[Any]]:
    """The samples: request, epoch, round (int64) and seconds (float64), equally long."""
    import numpy as np

    with np.load(measurement.samples, allow_pickle=False) as found:
        return {name: found[name] for name in ("request", "epoch", "round", "seconds")}


def fit(disturbed_share: float, foreign_cores: float) -> bool:
    """Were some blocks quiet, or what others used beside them little?"""
    return disturbed_share <= UNFIT_SHARE or not load.heavy([foreign_cores], machine.cores())


def require_fit(measurements: Sequence[Measurement]) -> None:
    """Raise InstrumentUnfit when nearly every block was disturbed, and heavily."""
    for m in measurements:
        share, foreign = m.machine["disturbed_share"], m.machine["foreign_cores"]
        if not fit(share, foreign):
            raise InstrumentUnfit(
                f"{m.arm}: other processes used {foreign:.1f} cores beside {share:.0%} of the "
                f"blocks; at most {load.LIMIT_CORES} are allowed. Stop them (see: top) and rerun."
            )


def _setup(
    requests: Sequence[Request], rounds: int, block_s: float, warmup: int, out: Path, seed: int
) -> _Setup:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "requests.npz"
    arrays.save(path, (r.inputs for r in requests))
    names = dict.fromkeys(r.group for r in requests)
    groups = tuple(tuple(i for i, r in enumerate(requests) if r.group == n) for n in names)
    return _Setup(path, groups, rounds, block_s, warmup, out, seed)


def _fit_together(arms: Sequence[Arm], memory_bytes: int | None) -> bool:
    free = limits.free_bytes() if memory_bytes is None else memory_bytes
    # weights as read and as the runtime packs them: twice the file
    need = sum(WORKER_BYTES + 2 * max(_size(a.plan.path), _size(a.plan.model.path)) for a in arms)
    return need < 0.8 * free


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size if path.exists() else 0


def _taken(setup: _Setup, arms: Mapping[int, Arm], epoch: int, together: bool) -> tuple[Tally, ...]:
    """One epoch of every arm, in the arms' order."""
    coin = random.Random(f"{setup.seed}/{epoch}")
    tallies = {i: Tally() for i in arms}
    order = coin.sample(list(arms), len(arms))
    for team in [order] if together else [[i] for i in order]:
        _epoch(setup, {i: arms[i] for i in team}, tallies, epoch, coin)
    return tuple(tallies.values())


def _epoch(
    setup: _Setup,
    arms: Mapping[int, Arm],
    tallies: Mapping[int, Tally],
    epoch: int,
    coin: random.Random,
) -> None:
    workers: dict[int, Worker] = {}
    try:
        for i, arm in arms.items():
            workers[i] = Worker(arm.name, _log(setup, i, arm))
            start = partial(_start, setup, workers[i], arm, tallies[i])
            _guarded(workers[i], tallies[i], start)
        for number in range(setup.rounds):
            order = [i for i in workers if not tallies[i].dead]
            coin.shuffle(order)
            for i in order:
                turn = partial(_turn, setup, workers[i], tallies[i], epoch, number)
                _guarded(workers[i], tallies[i], turn)
        for i, worker in workers.items():
            if not tallies[i].dead:
                _guarded(worker, tallies[i], partial(_peak, worker, tallies[i]))
    finally:
        for worker in workers.values():
            worker.close()


def _guarded(worker: Worker, tally: Tally, action: Callable[[], None]) -> None:
    """A worker in trouble loses its arm, not the others', and no longer runs beside them."""
    try:
        action()
    except AccelError as error:
        if concerns_all(error):
            raise
        tally.dead = str(error)
        worker.close()


def _start(setup: _Setup, worker: Worker, arm: Arm, tally: Tally) -> None:
    if setup.target is not None:
        limits.hold(worker, setup.target)
    load_s, cold_s = worker.load(arm.plan, setup.requests)
    tally.load_s.append(load_s)
    tally.cold_s.append(cold_s)
    worker.ask("warm", count=setup.warmup_calls)
    if setup.target is not None:
        limits.require(worker, setup.target)
    worker.stop()


def _turn(setup: _Setup, worker: Worker, tally: Tally, epoch: int, number: int) -> None:
    worker.resume()
    for first, indexes in enumerate(setup.groups):
        block = _quiet_block(worker, indexes, setup.block_s, tally, awake=first > 0)
        tally.add(block, epoch, number)
    worker.stop()


def _peak(worker: Worker, tally: Tally) -> None:
    worker.resume()
    tally.peak_bytes = max(tally.peak_bytes, worker.ask("memory"))


def _quiet_block(
    worker: Worker, indexes: tuple[int, ...], block_s: float, tally: Tally, awake: bool
) -> Block:
    """The quietest of up to 1 + RETAKES blocks, judged by the others' processor time alone."""
    best, quietest, noisy = _watched(worker, indexes, block_s, awake)
    hopeless = tally.disturbed > max(4.0, GIVE_UP_SHARE * len(tally.foreign))
    for _ in range(0 if hopeless else RETAKES):
        if not noisy:
            break
        tally.retaken += 1
        again, foreign, still = _watched(worker, indexes, block_s, awake=True)
        if foreign < quietest:
            best, quietest, noisy = again, foreign, still
    tally.foreign.append(quietest)
    tally.disturbed += noisy
    return best


def _watched(
    worker: Worker, indexes: tuple[int, ...], block_s: float, awake: bool
) -> tuple[Block, float, bool]:
    before = load.now()
    block = worker.block(indexes, block_s, awake)
    after = load.now()
    foreign = load.foreign_cores(before, after, block.own_s)
    return block, foreign, load.disturbed(foreign, after.wall_s - before.wall_s, machine.cores())


def _log(setup: _Setup, i: int, arm: Arm) -> Path:
    name = f"{_file(i, arm)}.log"
    return (
        setup.out / name if setup.log is None else setup.log.with_name(f"{setup.log.stem}-{name}")
    )


def _file(i: int, arm: Arm) -> str:
    return f"{i:02d}-" + re.sub(r"[^A-Za-z0-9._-]+", "_", arm.name)[:80]
