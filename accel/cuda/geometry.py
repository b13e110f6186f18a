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
    found = sorted(sizes, key=lambda size: isinstance(size, int))  # symbols first
    return functools.reduce(operator.mul, found) if found else 1


def sizes(kernel: str, shapes: Shapes, name: str, axes: int = 0) -> tuple[Any, ...]:
    """Those of an input: one an axis. Raise UsageError for another number of axes than asked for; 0
    asks for one or more."""
    found = tuple(shapes[name])
    if len(found) != axes if axes else not found:
        wanted = f"{axes} axes" if axes else "1 axis or more"
        raise UsageError(f"{kernel} takes {name} of {wanted}, not [{', '.join(map(str, found))}].")
    return found


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


def require_countable(kernel: str, values: Any, together: int) -> None:
    """Raise UsageError where groups of so many values are more than 32 bits count.

    A number of values that is still a symbol is not looked at."""
    if isinstance(values, int) and values > together << 32:
        raise UsageError(f"{kernel} takes up to {together << 32} values at once, not {values}.")


def require_single(kernel: str, shapes: Shapes, *names: str) -> None:
    """Raise UsageError for an input of more or less than one value."""
    for name in names:
        number = product(shapes[name])
        if isinstance(number, int) and number != 1:
            listed = ", ".join(map(str, shapes[name]))
            raise UsageError(f"{kernel} takes {name} of one value, not [{listed}].")
