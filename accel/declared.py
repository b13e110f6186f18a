"""What a workload declares beside its functions: a wrong kind is told at once, with what is right.

So is a name that is nearly one of those that are read, and one of an input that there is not: whoever
wrote it would wait for its effect.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from accel.errors import UsageError
from accel.plain import seen
from accel.values import Feed, Workload


def checked(given: Mapping[str, Any], path: Path) -> None:
    """Raise UsageError for a declaration of the wrong kind."""
    for name, (words, right) in KINDS.items():
        if name in given and not right(given[name]):
            raise UsageError(f"{path}: {name} must be {words}, not {seen(given[name])}.")


def fitting(problem: Workload, feed: Feed) -> None:
    """Raise UsageError for a declaration of what is no input: it would do nothing. An output may have
    its axes named, where it is in `outputs`."""
    inputs = tuple(feed)
    for what, names, more in (
        ("dynamic", tuple(problem.dynamic), tuple(problem.outputs)),
        ("padding", tuple(problem.padding), ()),
        ("noise", tuple(problem.noise), ()),
    ):
        odd = next((name for name in names if name not in (*inputs, *more)), None)
        if odd is not None:
            kind = "no input and not in outputs" if what == "dynamic" else "no input"
            raise UsageError(
                f"{problem.source}: {what} names {seen(odd)}, which is {kind}. "
                f"Inputs: {', '.join(inputs)}."
            )


def answered(names: Sequence[str], result: Any, parts: Sequence[Any]) -> None:
    """Raise UsageError for an output (a part of what the module gave) that is no tensor, and where `outputs`
    names others or another number."""
    odd = next((part for part in parts if not hasattr(part, "numpy")), None)
    if odd is not None:
        raise UsageError(
            f"The model gives a {type(odd).__name__} among its outputs. Wrap it so that it "
            f"gives a tensor, or a flat tuple or dict of tensors."
        )
    if names and isinstance(result, Mapping) and set(names) != set(result):
        raise UsageError(
            f"outputs names {', '.join(names)}; the model gives a dict of "
            f"{', '.join(map(str, result))}. Leave outputs out, or wrap the model so that it "
            f"gives what you want alone."
        )
    if names and len(names) != len(parts):
        raise UsageError(f"outputs names {len(names)}; the model gives {len(parts)}.")


def spelt(found: Any, functions: Sequence[str], path: Path) -> None:
    """Raise UsageError for a function or a setting of the user's whose name is nearly one that is read
    and not there. A setting has to be of the right kind, too: others have names like "output"."""
    known = (*functions, *KINDS)
    home = getattr(found, "__name__", type(found).__module__)  # a module's name, or an object's
    for name in dir(found):
        hidden = name.startswith("_") or name in known
        value = None if hidden else inspect.getattr_static(found, name)
        if issubclass(type(value), PLAIN):
            meant, call = _setting(name, value), ""
        elif getattr(value, "__module__", "") == home and callable(value):
            meant, call = _near(name, known, 0.8), "()"
        else:
            continue
        if meant and not hasattr(found, meant):
            raise UsageError(f"{path}: {name}{call} is not read. Did you mean {meant}{call}?")


def _setting(name: str, value: Any) -> str:
    """The setting that a value is meant for, or ""; an empty one says nothing."""
    meant = _near(name, tuple(KINDS), 0.9)
    said = meant and (value or value is False)
    return meant if said and KINDS[meant][1](value) else ""


def _near(name: str, known: Sequence[str], cutoff: float) -> str:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), "")


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


PLAIN = (bool, str, dict, list, tuple)  # what settings are made of
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
