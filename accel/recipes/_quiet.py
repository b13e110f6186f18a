"""Third parties print, warn, draw bars and log at length; a recipe's facts are what is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Capture output and warnings of a third-party call; no telemetry."""
    os.environ.setdefault("NNCF_CI", "1")  # NNCF's documented switch: no telemetry
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
        finally:
            root.setLevel(level)
