"""The pair's range is too narrow: what lies beyond it is cut off, and that costs more than rounding."""

from __future__ import annotations

import numpy as np

from accel.causes._cause import Cause
from accel.explaining.evidence import Evidence

MUCH = 4.0  # times the rounding error; a good range clips about as much as it rounds


def judge(e: Evidence) -> Cause | None:
    """By the mean square of what is cut, beside that of a step's rounding."""
    if e.part.kind != "activation" or e.seen is None or not e.seen.count or not e.step:
        return None  # without a step, no range is known: one of float8, or computed
    edges = e.seen.edges()
    middle = (edges[:-1] + edges[1:]) / 2
    beyond = np.maximum(middle - e.high, 0) + np.maximum(e.low - middle, 0)
    cut = float((e.seen.counts * beyond**2).sum()) / e.seen.count
    share = float(e.seen.counts[beyond > e.step].sum()) / e.seen.count
    if cut <= MUCH * e.step**2 / 12:
        return None
    return Cause(
        "clipped range",
        f"it covers {e.low:.3g} to {e.high:.3g}; values reach from {e.seen.low:.3g} to "
        f"{e.seen.high:.3g}, and {100 * share:.2g} % of them are cut off",
        "calibrate on data like this: accel calibrate MODEL --data x.npz, then quantize again",
        0.9,
    )
