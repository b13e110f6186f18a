"""A rough timing, to tell what is three times slower from what is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accel.errors import CandidateBroken
from accel.measure import instrument
from accel.values import Measurement, Plan, Refusal, Request


def quick(
    plan: Plan,
    requests: Sequence[Request],
    out: Path,
    *,
    budget_s: float,
    **held: Any,
) -> Measurement:
    """A rough timing for screening: one process, two rounds, about `budget_s` seconds of calls.
    `held`: the log and the target of `compare`.

    Raises CandidateBroken when the plan does not load or run."""
    groups = len({r.group for r in requests})
    found = instrument.compare(
        [instrument.Arm("quick", plan)],
        requests,
        out,
        epochs=1,
        rounds=2,
        block_s=budget_s / (2 * groups),
        warmup_calls=2,
        **held,
    )[0]
    if isinstance(found, Refusal):
        raise CandidateBroken(found.reason)
    return found
