"""Values <-> JSON. Paths are kept relative to a step's folder, so that a store can be moved."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from accel.errors import UsageError

SCHEMA = 1
T = TypeVar("T")


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
    """The value that `dump` wrote; relative paths are taken from `base`."""
    return typing.cast(T, _load(kind, data, base))


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


def read(path: Path) -> Any:
    """JSON from a file; a duplicate key or NaN is refused.

    Raises UsageError naming the file and the first thing wrong."""
    try:
        return json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
        )
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not readable JSON: {error}") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} stands twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _relative(path: Path, base: Path | None) -> str:
    if base is not None and path.is_absolute() and path.is_relative_to(base):
        return "./" + path.relative_to(base).as_posix()
    if base is not None and path.is_absolute() and path.is_relative_to(base.parent):
        return "../" + path.relative_to(base.parent).as_posix()  # a sibling step's file
    return path.as_posix()


def _load(kind: Any, data: Any, base: Path | None) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [k for k in typing.get_args(kind) if k is not type(None)]
        return None if data is None else _load(inner[0], data, base)
    if origin is tuple:
        return _load_tuple(typing.get_args(kind), data, base)
    if origin is not None and isinstance(data, dict):
        of = typing.get_args(kind)[1] if len(typing.get_args(kind)) > 1 else Any
        return {k: _load(of, v, base) for k, v in data.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _load_dataclass(kind, data, base)
    if kind is Path:
        return _absolute(data, base)
    if kind is float and data is None:
        return math.nan
    return float(data) if kind is float else data


def _absolute(data: str, base: Path | None) -> Path:
    if base is not None and data.startswith("./"):
        return base / data[2:]
    if base is not None and data.startswith("../"):
        return base.parent / data[3:]
    return Path(data)


def _load_tuple(of: tuple[Any, ...], data: Any, base: Path | None) -> tuple[Any, ...]:
    if len(of) == 2 and of[1] is Ellipsis:
        return tuple(_load(of[0], v, base) for v in data)
    return tuple(_load(k, v, base) for k, v in zip(of, data, strict=True))


def _load_dataclass(kind: type, data: Any, base: Path | None) -> Any:
    if not isinstance(data, dict):
        raise UsageError(f"{kind.__name__}: an object was expected, found {type(data).__name__}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(data) - {f.name for f in dataclasses.fields(kind)})
    if unknown:
        raise UsageError(f"{kind.__name__}: unknown fields {', '.join(unknown)}")
    try:
        return kind(**{k: _load(hints[k], v, base) for k, v in data.items()})
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{kind.__name__} cannot be read: {error}") from None
