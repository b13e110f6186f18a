"""Compare a plan's outputs with the reference's: is it sane, before anyone times it?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accel import arrays
from accel.measure.closeness import CheckResult, OutputCheck, comparable, compare, cosine
from accel.measure.outputs import outputs
from accel.values import Feed, Plan

__all__ = ["CheckResult", "OutputCheck", "check", "comparable", "compare", "cosine"]


def check(
    plan: Plan, expected: str | Path, feeds: Sequence[Feed], out: str | Path, **where: Any
) -> CheckResult:
    """Run the feeds in a fresh process and compare with `expected`, an .npz of outputs per feed.

    `where`: the log and the target of `outputs`.

    Raises CandidateBroken when the plan does not load or run, UsageError for a broken .npz,
    NoBaseline where that holds no finite value."""
    found = outputs(plan, feeds, Path(out), **where)
    return compare(arrays.load(Path(expected)), arrays.load(found))
