"""The user's own code, kept to its place: what it raises and prints."""

from __future__ import annotations

import contextlib
import math
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from accel.errors import AccelError, UsageError

T = TypeVar("T")
LONGEST = 400  # of what an error says


def guarded(what: str, call: Callable[[], T]) -> T:
    """Run the user's code; whatever it raises is one UsageError with its file and line, and what it
    prints goes to stderr: stdout is for answers."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return call()
    except AccelError:
        raise
    except SyntaxError as error:
        file = Path(error.filename).name if error.filename else what
        raise UsageError(f"{file}:{error.lineno or 1}: {error.msg}") from None
    except (
        Exception,
        SystemExit,
        GeneratorExit,
    ) as error:  # exit() in a user's file must not end a run with 0
        text = f"{what} failed at {_place(error)}: {type(error).__name__}: {_said(error)}"
        raise UsageError(text) from None


def number(what: str, call: Callable[[], object]) -> float:
    """The same of a number; NaN where it fails, as on a draw of samples that are all of one class."""
    try:
        return guarded(what, lambda: float(call()))  # type: ignore[arg-type]  # what is no number raises
    except UsageError:
        return math.nan


def _said(error: BaseException) -> str:
    """What the user's error says, in a line that can be read; it may fail even at that."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        return "it does not say"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _place(error: BaseException) -> str:
    """The deepest line of the user's own code, not of a library that it called."""
    libraries = [Path(__file__).parent, *map(Path, sysconfig.get_paths().values())]
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith("<")
        and not any(Path(frame.filename).is_relative_to(folder) for folder in libraries)
    ]
    at = (own or frames)[-1]
    return f"{Path(at.filename).name}:{at.lineno} in {at.name}"
