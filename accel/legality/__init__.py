"""Would a graph build on a target? Static checks, with no runtime of it installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accel.values import Finding, Request, Target


def check(model: Path, target: Target, requests: Sequence[Request] = ()) -> tuple[Finding, ...]:
    """What would be refused, go wrong, or cannot be told of an .onnx, worst first."""
    del model, target, requests  # there is no rule yet
    return ()
