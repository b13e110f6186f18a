"""A small `accel optimize`, the real command line with real children, under a fake clock named as such."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kills
from resume import MARK, alive

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """With this checkout's accel in front of any that is installed."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, **more}


class Run:
    """A command under way, and a mark on everything that it starts."""

    def __init__(self, words: Sequence[str], before: Sequence[str] = (), **more: Any) -> None:
        self.mark = uuid.uuid4().hex
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
        self.process = subprocess.Popen(
            [*before, *words], env=environment(**{MARK: self.mark}), **given
        )

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it said on stderr; nothing that it started may be left."""
        _, said = self.process.communicate()
        assert self.left() == ()
        return self.process.returncode, said

    def left(self) -> tuple[str, ...]:
        """Who still carries the mark ten seconds later."""
        return alive(self.mark)


def optimize(folder: Path, work: Path, release: str = "release", *more: str) -> list[str]:
    """The words of a run on a model and feeds in `folder`."""
    places = ["--work", str(work), "--out", str(folder / release)]
    return [*kills.optimize(folder), *places, *more]


def accel(*words: str) -> list[str]:
    """The words of any other command."""
    return [sys.executable, "-m", "accel", *words]
