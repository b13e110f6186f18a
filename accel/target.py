"""Targets: the files in profiles/, or a .toml of the user's own."""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accel import catalog, manifest
from accel.errors import UsageError
from accel.plain import seen
from accel.values import Target

RATE = "_per_s"  # int8_ops_per_s, bytes_per_s: the unit stands in the name
RESERVED = "reserved_shared_bytes"  # of a block, by the driver: none before 8.0
SM = {"warps", "blocks", "registers", "shared_bytes", RESERVED}
MOST = 2**63 - 1  # of a count: what other programs take; TOML's whole numbers know no end
LONGEST = 100  # letters of a version


def load(name: str) -> Target:
    """The target of that name, or in that .toml file.

    Raises UsageError for an unknown name, key or engine, a value of the wrong kind, a peak rate
    without a source, and for a file that is not TOML."""
    import tomllib

    path = Path(name)
    if path.suffix != ".toml":
        catalog.require("profiles", name)
        path = catalog.ROOT / "profiles" / f"{name}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a readable target: {error}") from None
    _known_keys(path, data)
    _sane(path, data)
    target = manifest.load(Target, {"name": path.stem, **data})
    for engine in target.engines:
        catalog.require("engines", engine)
    for recipe in target.recipes:
        catalog.require("recipes", recipe)
    return target


def sane(path: Path, kept: Mapping[str, Any]) -> None:
    """Raise UsageError for a target in a manifest that holds what no profile may."""
    _sane(path, {k: v for k, v in kept.items() if v is not None and v != {} and v != []})


def _sane(path: Path, data: Mapping[str, Any]) -> None:
    for key, value in data.items():
        words, right = KINDS[key]
        if not right(value):
            raise UsageError(f"{path}: {key} must be {words}, not {seen(value)}.")
    if data.get("peaks") and not data.get("sources"):
        raise UsageError(f"{path}: peaks without sources: say where each rate was read.")
    if ("compute_capability" in data) != ("sm" in data):
        raise UsageError(f"{path}: compute_capability and [sm], its limits, go together.")
    if "ptx_version" in data and "compute_capability" not in data:
        raise UsageError(f"{path}: ptx_version is an NVIDIA GPU's: give its compute_capability.")


def _version(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9]+\.[0-9]", value) is not None


def _limits(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == SM
        and all(
            type(size) is int and (name != RESERVED) <= size <= MOST for name, size in value.items()
        )
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) and v for v in value)


def _count(value: Any) -> bool:
    return type(value) is int and 0 < value <= MOST


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= sys.float_info.max


def _rates(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name.endswith(RATE) and _finite(rate) for name, rate in value.items()
    )


def _watts(value: Any) -> bool:
    return isinstance(value, dict) and all(_finite(watts) for watts in value.values())


def _versions(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(v, str) and 0 < len(v) <= LONGEST for v in value.values()
    )


def _known_keys(path: Path, data: dict[str, object]) -> None:
    allowed = {field.name for field in dataclasses.fields(Target)}
    for key in data:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"{path}: unknown key {key!r}.{hint} Allowed: {', '.join(sorted(allowed))}."
            )
    missing = {"description", "engines", "local"} - set(data)
    if missing:
        raise UsageError(f"{path}: {', '.join(sorted(missing))} must be given.")


KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a text", lambda v: isinstance(v, str) and v != ""),
    "description": ("a text", lambda v: isinstance(v, str) and v != ""),
    "engines": ("a list of names, one at least", lambda v: _texts(v) and bool(v)),
    "local": ("true or false", lambda v: isinstance(v, bool)),
    "threads": ("a whole number above 0", _count),
    "memory_bytes": ("a whole number above 0", _count),
    "isa": ("a list of texts", _texts),
    "compute_capability": ('a text such as "9.0"', _version),
    "ptx_version": ('a text such as "8.5"', _version),
    "recipes": ("a list of names", _texts),
    "architecture": ('a text such as "aarch64"', lambda v: isinstance(v, str) and v != ""),
    "gpu": ('a text such as "H200"', lambda v: isinstance(v, str) and v != ""),
    "multiprocessors": ("a whole number above 0", _count),
    "dla_cores": ("a whole number, 0 or more", lambda v: type(v) is int and 0 <= v <= MOST),
    "power_modes_w": ("a table of watts above 0", _watts),
    "software": ("a table of versions as texts", _versions),
    "sm": (f"a table of whole numbers above 0: {', '.join(sorted(SM))}", _limits),
    "peaks": (f"a table of rates above 0, each named *{RATE}", _rates),
    "sources": ("a list of texts", _texts),
}
