"""Arithmetic of launch geometry, on numbers and on symbols alike.

TensorRT's symbols know `symbol op number` but not `number op symbol`, hence no `math.prod`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any

WARP = 32


def cdiv(size: Any, by: int) -> Any:
    """ceil(size / by)."""
    return (size + (by - 1)) // by


def product(sizes: Iterable[Any]) -> Any:
    """The number of elements; 1 for no sizes at all."""
    found = list(sizes)
    return functools.reduce(operator.mul, found) if found else 1
