"""Third parties print, warn, draw bars, log at length and raise what they like.

A recipe's facts are what is kept of the chatter; an error becomes one of ours.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime

from accel import catalog, graph
from accel.errors import AccelError, BadModel, CandidateBroken

ERRORS_ONLY = 3  # ONNX Runtime's log severity


@contextlib.contextmanager
def quiet(tool: str) -> Iterator[io.StringIO]:
    """Capture output and warnings of a third-party call; no telemetry.

    Raises MissingExtra for a library that is not installed, CandidateBroken for whatever else the
    tool raises."""
    os.environ.setdefault("NNCF_CI", "1")  # NNCF's documented switch: no telemetry
    onnxruntime.set_default_logger_severity(ERRORS_ONLY)  # it writes past Python, names as they are
    chatter = io.StringIO()
    logging.getLogger("nncf").setLevel(logging.ERROR)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(chatter),
        contextlib.redirect_stderr(chatter),
    ):
        warnings.simplefilter("ignore")
        try:
            yield chatter
        except AccelError:
            raise
        except ModuleNotFoundError as error:
            raise catalog.missing(tool, error) from None
        except Exception as error:  # each tool has types of its own
            said = next((x for x in str(error).splitlines() if x.strip()), "")
            kind = type(error).__name__
            raise CandidateBroken(f"{tool} failed: {kind}: {said.strip()[:400]}") from None
        finally:
            root.setLevel(level)


def opened(tool: str, path: Path) -> Any:
    """The graph that a tool wrote. Raises CandidateBroken where it is not valid: that is no fault of
    the graph that it was made of."""
    try:
        return graph.open_model(path)
    except BadModel as error:
        raise CandidateBroken(f"{tool} wrote a graph that is not valid: {error}") from None
