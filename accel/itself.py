"""accel's own source, which is a part of every step's key."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

# what only asks, prints or arranges steps
ABOVE_THE_STEPS = {
    "cli.py",
    "cache.py",
    "cli_bless.py",
    "cli_cache.py",
    "cli_calibrate.py",
    "cli_doctor.py",
    "cli_explain.py",
    "causes",
    "explaining",
    "cli_gate.py",
    "cli_bench.py",
    "cli_inspect.py",
    "cli_kernels.py",
    "cli_steps.py",
    "cli_ledger.py",
    "cli_release.py",
    "cli_legality.py",
    "cli_place.py",
    "shell.py",
    "terminal.py",
    "words.py",
    "questions",
    "report",
    "pipeline.py",
    "stages.py",
    "scoring.py",
    "certifying.py",
    "deciding.py",
    "finishing.py",
    "mending.py",
    "naming.py",
    "unfinished.py",
    "search.py",
    "refining.py",
    "constraints.py",
    "testing.py",
    "pytest_plugin.py",
    "pytest_gate.py",
}


@functools.cache
def digest() -> str:
    """Digest of accel's own Python source: a changed tool never reuses an old result.

    What only asks, prints or arranges steps cannot change a step's result and is left out."""
    total = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(_sources(root)):
        name = path.relative_to(root).as_posix()
        if name.partition("/")[0] not in ABOVE_THE_STEPS:
            total.update(name.encode() + path.read_bytes())
    return total.hexdigest()[:20]


def _sources(root: Path) -> Iterator[Path]:
    """In a checkout kernels/ is a link, in a wheel it is not: both are followed, for one digest."""
    for folder, _, names in os.walk(root, followlinks=True):
        yield from (Path(folder) / name for name in names if name.endswith(".py"))
