"""Values <-> JSON. Paths are kept relative to a step's folder, so that a store can be moved."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from accel.errors import EnvironmentProblem, UsageError
from accel.plain import seen

SCHEMA = 1
LARGEST_BYTES = 256 << 20  # of a JSON file; a release's is below one
DEEPEST = 100  # levels; ours have about ten, and Python's own stack ends near 500 of them
TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"
T = TypeVar("T")
PLAIN = {int: "a number", float: "a number", str: "a text", bool: "true or false"}


def dump(value: Any, base: Path | None = None) -> Any:
    """A value as plain JSON data; paths below `base` become relative to it."""
    return _dump(value, base, lambda _: None)  # a reader must see an absence, not a number


def exact(value: Any) -> Any:
    """The same for a key, where all that differs must differ: NaN and the infinities have their names."""
    return _dump(value, None, lambda odd: {"float": repr(odd)})


def _dump(value: Any, base: Path | None, odd: Callable[[float], Any]) -> Any:
    """`odd`: what stands for a float that JSON has not."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _dump(getattr(value, f.name), base, odd)
            for f in dataclasses.fields(value)
            if not callable(getattr(value, f.name))
        }
    if isinstance(value, Path):
        return _relative(value, base)
    if isinstance(value, Mapping):
        named = {str(k): _dump(v, base, odd) for k, v in value.items()}
        if len(named) != len(value):
            raise TypeError(f"two keys of a mapping have one text: {list(value)}")
        return named
    if isinstance(value, (list, tuple)):
        return [_dump(v, base, odd) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return odd(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if hasattr(value, "item"):  # a numpy scalar
        return _dump(value.item(), base, odd)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def load(kind: type[T], data: Any, base: Path | None = None) -> T:
    """The value that `dump` wrote; relative paths are taken from `base`.

    Raises UsageError for data of another kind, naming the field."""
    try:
        return typing.cast(T, _load(kind, data, base))
    except (TypeError, ValueError, OverflowError) as error:  # of what is no dataclass
        raise UsageError(f"the data cannot be read: {error}") from None


def text(value: Any, base: Path | None = None) -> str:
    """One stable JSON text for one value: sorted keys, no NaN."""
    return json.dumps(dump(value, base), indent=1, sort_keys=True, allow_nan=False)


def document(kind: str, value: Any) -> str:
    """What --json prints: one schema-versioned document."""
    return json.dumps(
        {"schema": f"accel/{kind}", "schema_version": SCHEMA, "data": dump(value)},
        indent=1,
        allow_nan=False,
    )


def read(path: Path, most_bytes: int = LARGEST_BYTES) -> Any:
    """JSON from a file; a duplicate key, NaN and a number beyond all floats are refused.

    Raises UsageError naming the file and the first thing wrong, EnvironmentProblem where it may not
    be read."""
    try:
        if (size := path.stat().st_size) > most_bytes:
            raise ValueError(f"{size / 1e6:.0f} MB; at most {most_bytes / 1e6:.0f} MB are read")
        return parsed(path.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise unreadable(path, error) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not readable JSON: {error}") from None


def unreadable(path: Path, error: PermissionError) -> EnvironmentProblem:
    """What is told of a file that is there and may not be read: nothing is wrong with it."""
    return EnvironmentProblem(
        f"{path} cannot be read ({error.strerror or error}). Change its permissions, or name another."
    )


def parsed(text: str) -> Any:
    """JSON from a text. Raises ValueError for what `read` refuses, and what is nested absurdly deep."""
    try:
        found = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if _levels(found) > DEEPEST:
        raise ValueError(TOO_DEEP)
    return found


def _levels(data: Any) -> int:
    count, level = 0, [data]
    while level := [v for one in level for v in _inside(one)]:
        count += 1
    return count


def _inside(data: Any) -> Iterable[Any]:
    return data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {seen(key)} stands twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is larger than any number")
    return value


def _relative(path: Path, base: Path | None) -> str:
    if base is not None and path.is_absolute() and path.is_relative_to(base):
        return "./" + path.relative_to(base).as_posix()
    if base is not None and path.is_absolute() and path.is_relative_to(base.parent):
        return "../" + path.relative_to(base.parent).as_posix()  # a sibling step's file
    return path.as_posix()


def _load(kind: Any, data: Any, base: Path | None) -> Any:
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _load_union(of, data, base)
    if origin is tuple:
        return _load_tuple(of, data, base)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {k: _load(of[1], v, base) for k, v in _as(dict, data, "an object").items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _load_dataclass(kind, data, base)
    if kind is Path:
        return _absolute(_as(str, data, "a path"), base)
    if kind is float and data is None:
        return math.nan
    if kind in PLAIN and not _fits(kind, data):
        raise TypeError(f"{PLAIN[kind]} was expected, not {seen(data)}")
    if origin is typing.Literal and data not in of:
        raise ValueError(f"one of {', '.join(map(repr, of))} was expected, not {seen(data)}")
    return kind(data) if kind in (int, float) else data


def _load_union(of: tuple[Any, ...], data: Any, base: Path | None) -> Any:
    """The first of the kinds that it is; the last one's error where it is none of them."""
    if data is None and type(None) in of:
        return None
    *others, last = (kind for kind in of if kind is not type(None))
    for kind in others:
        with contextlib.suppress(UsageError, TypeError, ValueError):
            return _load(kind, data, base)
    return _load(last, data, base)


def _as(kind: type[T], data: Any, words: str) -> T:
    if not isinstance(data, kind):
        raise TypeError(f"{words} was expected, not {seen(data)}")
    return data


def _fits(kind: Any, data: Any) -> bool:
    """A truth is no number, whatever Python says."""
    if kind is int and isinstance(data, float):
        return data.is_integer()
    return isinstance(data, (int, float) if kind is float else kind) and (
        kind is bool or not isinstance(data, bool)
    )


def _absolute(data: str, base: Path | None) -> Path:
    if "\0" in os.fsdecode(os.fsencode(data)):
        raise ValueError(f"a path was expected, not {seen(data)}")
    if base is not None and data.startswith("./"):
        return base / data[2:]
    if base is not None and data.startswith("../"):
        return base.parent / data[3:]
    return Path(data)


def _load_tuple(of: tuple[Any, ...], data: Any, base: Path | None) -> tuple[Any, ...]:
    given = _as(list, data, "a list")
    if len(of) == 2 and of[1] is Ellipsis:
        return tuple(_load(of[0], v, base) for v in given)
    return tuple(_load(k, v, base) for k, v in zip(of, given, strict=True))


def _plain(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else seen(name)


def _load_dataclass(kind: type, data: Any, base: Path | None) -> Any:
    if not isinstance(data, dict):
        raise UsageError(f"{kind.__name__}: an object was expected, found {type(data).__name__}")
    hints = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]
    unknown = sorted(set(data) - set(known))
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f". Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{kind.__name__}: unknown fields {', '.join(map(_plain, unknown))}{hint}")
    name = kind.__name__
    try:
        values = {}
        for field, value in data.items():
            name = f"{kind.__name__}.{field}"
            values[field] = _load(hints[field], value, base)
        name = kind.__name__
        return kind(**values)
    except (TypeError, ValueError, OverflowError, KeyError, AttributeError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from None
