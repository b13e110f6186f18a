"""The code behind a workload: its file, the user's own modules that it imports, the libraries.

A module of the user's counts by its bytes, a library by its version. Nothing is imported here: what
a function imports only when it is called is looked up as well.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

INSTALLED = {
    "site-packages",
    "dist-packages",
}  # a part of every path that pip and Debian install to


def parted(source: str | Path) -> tuple[str, str]:
    """The file, and the object in it, of "file.py:object"; the object of a whole file is "".

    A path may have colons of its own: what is no name in Python names no object."""
    file, _, name = str(source).rpartition(":")
    split = file.endswith(".py") and (not name or name.isidentifier())
    return (file, name) if split else (str(source), "")


def digest(path: Path, attribute: str = "") -> str:
    """sha256 of a workload's file, of which object in it is meant, and of the user's own modules."""
    source = hashlib.sha256(path.read_bytes()).hexdigest()
    found = _closure({path: ""})[0]
    own = {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in found.items()}
    if not attribute and not own:
        return source
    return hashlib.sha256(json.dumps([source, attribute, sorted(own.items())]).encode()).hexdigest()


def loaded(names: Iterable[str]) -> str:
    """sha256 of those of these loaded modules that are the user's own, and of what they import in turn."""
    places: dict[Path, str] = {}
    for name in names:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if file is None or name.partition(".")[0] == __package__:
            continue
        if Path(file).is_file() and _own(file):
            places[Path(file)] = getattr(module, "__package__", "") or ""
    files = {*places, *_closure(places)[0].values()}
    found = sorted({hashlib.sha256(file.read_bytes()).hexdigest() for file in files})
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def versions(path: Path) -> Mapping[str, str]:
    """Of the libraries that a workload and its own modules import, by the name of the distribution."""
    from importlib import metadata

    names = _closure({path: ""})[1]
    known = metadata.packages_distributions() if names else {}
    return installed(sorted({d for name in names for d in known.get(name, ())}))


def installed(distributions: Iterable[str]) -> Mapping[str, str]:
    """Versions of those that are there."""
    from importlib import metadata

    found = {}
    for name in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _closure(files: Mapping[Path, str]) -> tuple[dict[str, Path], set[str]]:
    """What files import, each in its package: the user's own modules, by name; and the first names of the
    libraries' modules."""
    own: dict[str, Path] = {}
    libraries: set[str] = set()
    left = list(files.items())
    while left:
        file, package = left.pop()
        for name in _imports(file, package):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == __package__:
                continue
            for found, spec in _specs(name):
                if not _is_own(spec):
                    libraries.add(top)
                    break
                place = Path(spec.origin) if spec.has_location and spec.origin else None
                if place is not None and found not in own and place.is_file():
                    own[found] = place
                    left.append((place, found if spec.submodule_search_locations else spec.parent or ""))  # fmt: skip
    return own, libraries


def _imports(file: Path, package: str) -> Iterator[str]:
    """Dotted names; of `from a import b` both a and a.b, which may be a module or not."""
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # whoever imports it will say so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    try:
        return importlib.util.resolve_name("." * node.level + (node.module or ""), package)
    except ImportError:  # beyond the top, as a workload's own file is
        return ""


def _specs(name: str) -> Iterator[tuple[str, ModuleSpec]]:
    """Of each package on the way to a module, and of the module: as far as there is one."""
    spec: ModuleSpec | None = None
    parts = name.split(".")
    for i in range(len(parts)):
        found = ".".join(parts[: i + 1])
        try:
            if i == 0:
                spec = importlib.util.find_spec(found)
            else:
                assert spec is not None  # of the part before
                inside = spec.submodule_search_locations
                spec = None if inside is None else PathFinder.find_spec(found, list(inside))
        except (ImportError, ValueError, AttributeError):
            return
        if spec is None:
            return
        yield found, spec


def _is_own(spec: ModuleSpec) -> bool:
    """Neither installed nor Python's own."""
    inside = list(spec.submodule_search_locations or ())
    place = spec.origin if spec.has_location else next(iter(inside), None)
    return place is not None and _own(place)


def _own(place: str) -> bool:
    real = Path(os.path.realpath(place))
    library = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    return not (INSTALLED & set(real.parts) or any(real.is_relative_to(p) for p in library))
