"""Signatures as pybind11 writes them into docstrings, and calls held against them.

    name(self: tensorrt.tensorrt.Kind, arg: type = default) -> type

An argument that pybind11 names itself (`arg0`) can only be given by its place.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WHOLE = {"int", "typing.SupportsInt"}
NUMBER = {"float", "typing.SupportsFloat"}
BUFFER = {"buffer", "typing_extensions.Buffer"}
SEQUENCE = re.compile(r"^(List|list|collections\.abc\.(Sequence|Iterable)|Iterable)\b")


@dataclass(frozen=True)
class Argument:
    """One parameter: whether it can be left out, and whether it can be given by its name."""

    name: str
    kind: str
    optional: bool

    @property
    def named(self) -> bool:
        return re.fullmatch(r"arg\d+", self.name) is None


@functools.cache
def parse(text: str) -> tuple[Argument, ...]:
    """The arguments of a signature, without `self`."""
    inside = text[text.index("(") + 1 : _closing(text)]
    parts = [part.strip() for part in _split(inside) if part.strip()]
    return tuple(_argument(part) for part in parts if not part.startswith("self:"))


def _argument(part: str) -> Argument:
    name, _, rest = part.partition(":")
    kind, equals, _ = rest.partition(" = ")
    return Argument(name.strip(), kind.strip(), bool(equals))


def _closing(text: str) -> int:
    depth = 0
    for i, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == ")" and depth == 0:
            return i
    raise AssertionError(text)


def _split(text: str) -> list[str]:
    """At the commas that stand in no bracket."""
    depth, parts = 0, [""]
    for letter in text:
        depth += {"[": 1, "(": 1, "<": 1, "]": -1, ")": -1, ">": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def bind(
    what: str,
    overloads: Sequence[tuple[Argument, ...]],
    given: Sequence[Any],
    named: Mapping[str, Any],
    find: Callable[[str], Any],
) -> dict[str, Any]:
    """What was given, by the names of the first overload that takes it; TypeError for none.

    `find` gives the fake's class or enum of a name in the docstrings, None for other names."""
    for arguments in overloads:
        bound = _bound(arguments, given, named)
        if bound is not None and all(
            _fits(bound[a.name], a, find) for a in arguments if a.name in bound
        ):
            return bound
    wanted = " or ".join(
        f"({', '.join(f'{a.name}: {a.kind}' for a in arguments)})" for arguments in overloads
    )
    raise TypeError(
        f"{what}(): incompatible function arguments: it takes {wanted}, and was given "
        f"{[*map(repr, given), *(f'{k}={v!r}' for k, v in named.items())]}"
    )


def _bound(
    arguments: tuple[Argument, ...], given: Sequence[Any], named: Mapping[str, Any]
) -> dict[str, Any] | None:
    if len(given) > len(arguments):
        return None
    bound = {a.name: v for a, v in zip(arguments, given, strict=False)}
    names = {a.name for a in arguments if a.named} - bound.keys()
    if not named.keys() <= names:
        return None
    bound |= named
    return bound if all(a.optional or a.name in bound for a in arguments) else None


def _fits(value: Any, argument: Argument, find: Callable[[str], Any]) -> bool:
    kind = argument.kind
    if kind in WHOLE:
        known = hasattr(value, "__index__") or hasattr(value, "__int__")
        return known and not isinstance(value, (float, str))
    if kind in NUMBER:
        return hasattr(value, "__float__")
    if kind == "bool":
        return type(value).__name__ in ("bool", "bool_")
    if kind == "str":
        return isinstance(value, str) or (value is None and argument.optional)
    if kind in BUFFER:
        return _is_buffer(value)
    if kind == "tuple":
        return isinstance(value, tuple)
    found = find(kind)
    if found is not None:
        return _is_one(value, found, kind)
    if SEQUENCE.match(kind):
        return hasattr(value, "__getitem__") and not isinstance(value, str)
    return True


def _is_one(value: Any, found: Any, kind: str) -> bool:
    """Sequences stand for Dims (pybind11: implicitly_convertible), None for a pointer that is null."""
    if hasattr(found, "__members__"):
        return isinstance(value, found)
    if kind.endswith(".FallbackString"):
        return isinstance(value, (str, bytes, found))
    if kind.endswith(".Dims"):
        return isinstance(value, (found, tuple, list))
    return value is None or isinstance(value, found)


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True
