"""What a workload declares beside its functions: a wrong kind is told at once, with what is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from accel.errors import UsageError
from accel.plain import seen


def checked(given: Mapping[str, Any], path: Path) -> None:
    """Raise UsageError for a declaration of the wrong kind."""
    for name, (words, right) in KINDS.items():
        if name in given and not right(given[name]):
            raise UsageError(f"{path}: {name} must be {words}, not {seen(given[name])}.")


def _axes(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(axes, Mapping)
        and all(type(axis) is int and isinstance(symbol, str) for axis, symbol in axes.items())
        for axes in value.values()
    )


def _fills(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(fill, Real) for fill in value.values())


def _names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)


KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "dynamic": ('a dict such as {"input": {0: "batch"}}', _axes),
    "padding": ('a dict such as {"input": 0}', _fills),
    "noise": ('a tuple of inputs such as ("z",)', _names),
    "outputs": ('a tuple of names such as ("logits",)', _names),
    "metric_name": ("a text", lambda v: isinstance(v, str)),
    "metric_unit": (
        '"pt" (of a hundred) or "fraction"',
        lambda v: isinstance(v, str) and v in ("pt", "fraction"),
    ),
    "higher_is_better": ("True or False", lambda v: isinstance(v, bool)),
}
