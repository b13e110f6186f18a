"""What a release was made with: accel's own source, the interpreter, every installed library.

Which libraries took part cannot be seen from one process: steps run in children, and plug-ins load
each other. So all that could be imported is told, as it was installed.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accel import store
from accel.values import Options
from accel.version import VERSION

if TYPE_CHECKING:
    from importlib.metadata import Distribution

SOURCES = (".py", ".toml")  # what both a checkout and a wheel hold: code, kernels, profiles
OWN = "accel-inference"


def here() -> Options:
    """The `provenance` of a release that is packed by this process."""
    return {
        "accel": {"version": VERSION, "source": source()},
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
        },
        "distributions": distributions(),
    }


@functools.cache
def source() -> str:
    """sha256 over all of accel's source files; from a checkout and its wheel the same."""
    root = Path(__file__).parent
    return store.digest_json(
        {path.relative_to(root).as_posix(): store.digest_file(path) for path in _sources(root)}
    )


def _sources(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root, followlinks=True):  # kernels and profiles are links
        yield from (Path(folder, name) for name in names if name.endswith(SOURCES))


@functools.cache
def distributions() -> dict[str, Mapping[str, str]]:
    """Name -> version and digest of every distribution that can be imported here, but accel."""
    from importlib import metadata

    found: dict[str, Mapping[str, str]] = {}
    for one in metadata.distributions():
        name = (one.metadata["Name"] or "").lower().replace("_", "-").replace(".", "-")
        if name and name != OWN and name not in found:  # the first on the path is the one imported
            found[name] = {"version": one.version or "", "digest": installed(one)}
    return dict(sorted(found.items()))


def installed(one: Distribution) -> str:
    """sha256 over the files that a wheel brought and their digests, as the installer noted them;
    wherever one wheel is installed the same. "": it noted none."""
    rows = csv.reader((one.read_text("RECORD") or "").splitlines())
    brought = sorted(f"{row[0]} {row[1]}" for row in rows if _of_the_wheel(row))
    return hashlib.sha256("\n".join(brought).encode()).hexdigest() if brought else ""


def _of_the_wheel(row: Sequence[str]) -> bool:
    """Not scripts, which name their interpreter, nor what was compiled or told at the install."""
    if len(row) < 2 or not row[1]:
        return False
    first = row[0].partition("/")[0]
    return first not in ("..", "") and not first.endswith(".dist-info")
