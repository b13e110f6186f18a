"""Which optimization profile of an engine serves a request. Pure.

Ranges are as in the plan's facts: {input: {"min": [..], "opt": [..], "max": [..]}}, and "values" with
the same three for an input that is read as a shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from accel.errors import UsageError

Ranges = Mapping[str, Mapping[str, Any]]
Sizes = Mapping[str, Sequence[int]]


def choose(profiles: Sequence[Ranges], shapes: Sizes, values: Sizes) -> int:
    """The number of the smallest profile that covers these shapes, and the values of shape inputs.

    The smallest, since tactics and memory were chosen for its largest shapes. Raises UsageError
    where none covers them."""
    fitting = [i for i, ranges in enumerate(profiles) if covers(ranges, shapes, values)]
    if fitting:
        return min(fitting, key=lambda i: (volume(profiles[i]), i))
    asked = ", ".join(f"{name} {list(sizes)}" for name, sizes in shapes.items())
    asked += "".join(f", {name} = {list(found)}" for name, found in values.items())
    raise UsageError(
        f"No optimization profile of the plan takes {asked}. It has: {_listed(profiles)}. Send "
        "shapes within one of them, or build again: with such requests() in the workload, or the "
        'option ranges, {"AXIS": [smallest, largest]}.'
    )


def covers(ranges: Ranges, shapes: Sizes, values: Sizes) -> bool:
    """Is every size, and every value, within the range?"""
    inside = all(_within(ranges[n], sizes) for n, sizes in shapes.items() if n in ranges)
    read = ((ranges[n].get("values"), found) for n, found in values.items() if n in ranges)
    return inside and all(bounds is None or _within(bounds, found) for bounds, found in read)


def _within(bounds: Mapping[str, Any], sizes: Sequence[int]) -> bool:
    low, high = bounds["min"], bounds["max"]
    return len(low) == len(sizes) and all(
        a <= n <= b for a, n, b in zip(low, sizes, high, strict=True)
    )


def volume(ranges: Ranges) -> int:
    """Elements of all inputs at their largest; of shape inputs the values."""
    return sum(math.prod(b.get("values", b)["max"]) for b in ranges.values())


def _listed(profiles: Sequence[Ranges]) -> str:
    return "; ".join(
        f"{i}: " + ", ".join(f"{name} {_range(bounds)}" for name, bounds in ranges.items())
        for i, ranges in enumerate(profiles)
    )


def _range(bounds: Mapping[str, Any]) -> str:
    """ "[1..8, 4]"; " = [1..8]" for values."""
    words = {"min": bounds["min"], "max": bounds["max"], **bounds.get("values", {})}
    pairs = zip(words["min"], words["max"], strict=True)
    sizes = ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in pairs)
    return f"= [{sizes}]" if "values" in bounds else f"[{sizes}]"
