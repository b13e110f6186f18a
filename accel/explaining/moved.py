"""The reference as its weights were moved before they were rounded: the same function, in the candidate's terms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.explaining.view import View, aligned

LEAST = 1e-12  # of a weight's squares: what is off by less is off by nothing


def nearer(candidate: View, one: View, two: View) -> bool:
    """Of two forms of the reference: are the candidate's weights, where these differ, those of the second?

    By the ratio of what they are off, over all: one whose scale is wrong is far from both."""
    told = 0.0
    for value, form in aligned(one, candidate).items():
        found = [_weight(view, name) for view, name in ((one, value), (two, value), (candidate, form))]
        a, b, now = found
        if a is None or b is None or now is None or not a.shape == b.shape == now.shape:
            continue
        least = LEAST * float(np.square(a).sum())
        if least > 0 and not np.array_equal(a, b):
            told += math.log(max(_off(now, a), least) / max(_off(now, b), least))
    return told > 0


def _weight(view: View, value: str) -> NDArray[Any] | None:
    node = view.node(value)
    found = None if node is None or len(node.input) < 2 else view.array(node.input[1])
    return found if found is not None and found.dtype.kind == "f" else None


def _off(now: NDArray[Any], then: NDArray[Any]) -> float:
    return float(np.square(now.astype(np.float64) - then).sum())
