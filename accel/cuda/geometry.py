"""Arithmetic of launch geometry, on numbers and on symbols alike.

TensorRT's symbols know `symbol op number` but not `number op symbol`, hence no `math.prod`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any

from accel.errors import UsageError
from accel.protocols import Shapes

WARP = 32


def cdiv(size: Any, by: int) -> Any:
    """ceil(size / by)."""
    return (size + (by - 1)) // by


def product(sizes: Iterable[Any]) -> Any:
    """The number of elements; 1 for no sizes at all."""
    found = list(sizes)
    return functools.reduce(operator.mul, found) if found else 1


def require(kernel: str, shapes: Shapes, **wanted: tuple[Any, ...]) -> None:
    """Raise UsageError for an input of other sizes: a kernel would read past its end.

    A size that is still a symbol is not looked at."""
    for name, sizes in wanted.items():
        found = tuple(shapes[name])
        pairs = zip(found, sizes, strict=False)
        known = ((a, b) for a, b in pairs if isinstance(a, int) and isinstance(b, int))
        if len(found) != len(sizes) or any(a != b for a, b in known):
            raise UsageError(
                f"{kernel}: {name} is [{', '.join(map(str, found))}]; beside the other inputs it "
                f"has to be [{', '.join(map(str, sizes))}]."
            )


def require_single(kernel: str, shapes: Shapes, *names: str) -> None:
    """Raise UsageError for an input that has not exactly one element, of whatever rank."""
    for name in names:
        require(kernel, shapes, **{name: (1,) * len(shapes[name])})
