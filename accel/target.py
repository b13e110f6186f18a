"""Targets: the files in profiles/, or a .toml of the user's own."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path

from accel import catalog, manifest
from accel.errors import UsageError
from accel.values import Target


def load(name: str) -> Target:
    """The target of that name, or in that .toml file.

    Raises UsageError for an unknown name, key or engine, and for a file that is not TOML."""
    import tomllib

    path = Path(name)
    if path.suffix != ".toml":
        catalog.require("profiles", name)
        path = catalog.ROOT / "profiles" / f"{name}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a readable target: {error}") from None
    _known_keys(path, data)
    target = manifest.load(Target, {"name": path.stem, **data})
    for engine in target.engines:
        catalog.require("engines", engine)
    return target


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
