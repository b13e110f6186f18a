"""accel under a fake clock, and named as such: nothing is timed, every latency is made up.

    python benchmarks/fake_clock.py optimize model.onnx --out release

is `accel optimize model.onnx --out release` with one difference: an epoch's samples follow from what
is timed and from the epoch's number alone. Whatever such a run writes, measurements too, is the same
bytes in every run, so that a run that was killed and resumed can be compared with one that was not.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

from accel import cli
from accel.measure import ceiling, instrument
from accel.measure.ceiling import Ceilings
from accel.measure.instrument import Arm
from accel.measure.tally import Tally
from accel.measure.worker import Block

CALLS = 20  # of each request in a round


def taken(setup: Any, arms: Mapping[int, Arm], epoch: int, _: bool) -> tuple[Tally, ...]:
    """What `instrument` would have gathered in one epoch, made up."""
    return tuple(_tally(setup, arm, epoch) for arm in arms.values())


def _tally(setup: Any, arm: Arm, epoch: int) -> Tally:
    told = f"{arm.plan.engine} {arm.plan.model.digest} {sorted(arm.plan.options.items())}"
    digest = hashlib.sha256(told.encode()).digest()
    coin = random.Random(f"{told}/{epoch}")
    base_ns = 100_000 + 100 * int.from_bytes(digest[:2])  # 0.1 to 6.7 ms
    made = Tally(load_s=[0.01], cold_s=[0.001], peak_bytes=100 << 20)
    for number in range(setup.rounds):
        for indexes in setup.groups:
            calls = CALLS * len(indexes)
            durations = [int(base_ns * coin.uniform(0.99, 1.01)) for _ in range(calls)]
            made.add(Block(indexes, durations, 0.0), epoch, number)
            made.foreign.append(0.0)
    return made


def ceilings(threads: int) -> Ceilings:
    """Rates that no machine was asked for."""
    rates = dict.fromkeys(("float32", "bfloat16", "int8"), 1e11)
    return Ceilings(rates, ((1 << 20, 1e10),), {"float32": "made up"}, threads)


def main() -> None:
    """The command line, with the clock's two places taken by the fake."""
    instrument._taken = taken
    ceiling.VERB = "fake_clock:ceilings"
    cli.main()


if __name__ == "__main__":
    main()
