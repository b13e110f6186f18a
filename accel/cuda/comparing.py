"""How far a kernel's output is from its reference, in the kernel's own tolerance."""

from __future__ import annotations

import math
from typing import Any


def excess(got: Any, want: Any, allowed: float) -> float:
    """The worst |got - want| / (1 + |want|) over the allowed: right up to 1.

    Infinite where a shape differs, where NaN and infinity do not stand alike, and where nothing is
    allowed and something differs."""
    import numpy as np

    got, want = np.asarray(got).astype(np.float64), np.asarray(want).astype(np.float64)
    if got.shape != want.shape:
        return math.inf
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return math.inf
    error = np.abs(got[finite] - want[finite]) / (1 + np.abs(want[finite]))
    worst = float(error.max(initial=0.0))  # NaN where a number was expected
    if worst == 0:
        return 0.0
    return worst / allowed if allowed and not math.isnan(worst) else math.inf
