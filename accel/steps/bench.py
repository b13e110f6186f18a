"""Time plans side by side: the verb around the instrument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from accel.errors import UsageError
from accel.measure import instrument
from accel.measure.instrument import Arm, Progress
from accel.values import Measurement, Plan, Refusal, Request


def bench(
    plans: Sequence[Plan] | Mapping[str, Plan],
    requests: Sequence[Request],
    out: str | Path,
    *,
    epochs: int = 3,
    rounds: int = 10,
    block_s: float = 0.1,
    warmup_calls: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Measurement | Refusal, ...]:
    """A Measurement of each plan, in order; a Refusal with the reason for one that broke.

    Plans given by name are reported under it, others under their engine's. Raises UsageError when
    there is nothing to time."""
    if not plans or not requests:
        raise UsageError(
            f"There is nothing to time: {len(plans)} plans and {len(requests)} requests were given,"
            f" at least one of each is needed."
        )
    return instrument.compare(
        arms_of(plans),
        requests,
        Path(out),
        epochs=epochs,
        rounds=rounds,
        block_s=block_s,
        warmup_calls=warmup_calls,
        seed=seed,
        progress=progress,
    )


def arms_of(plans: Sequence[Plan] | Mapping[str, Plan]) -> tuple[Arm, ...]:
    """Plans given by name are called so, others by their engine."""
    if isinstance(plans, Mapping):
        return tuple(Arm(name, plan) for name, plan in plans.items())
    engines = [plan.engine for plan in plans]
    return tuple(
        Arm(p.engine if engines.count(p.engine) == 1 else f"{p.engine} {i + 1}", p)
        for i, p in enumerate(plans)
    )
