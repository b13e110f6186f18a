"""TensorRT itself: found late, its enum members looked up by name, its messages collected.

Numbers of enum members moved between 10.16 and 11.4 (STRONGLY_TYPED 1 -> 0, STRIP_PLAN 19 -> 18), and
members went: a member is only ever asked for by name. What is imported here is NVIDIA's own package.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from accel import catalog
from accel.engines._tensorrt_plugins import TYPES
from accel.errors import CandidateBroken, MissingExtra

OLDEST, NEWEST = (10, 3), (12,)  # JetPack 6.2 has 10.3; 12 is not known yet
WARNINGS_KEPT = 40  # a graph that falls from a DLA says so once a layer
NUMPY = {name: dtype for dtype, name in TYPES.items()}  # of a tensorrt.DataType's name


def library() -> Any:
    """The tensorrt module.

    Raises MissingExtra where it is absent, does not load, or is not of 10.3 to 11."""
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        raise catalog.missing("engine 'tensorrt'", error) from None
    except (ImportError, OSError) as error:  # libnvinfer or the driver's library is absent
        raise MissingExtra(
            f"engine 'tensorrt': its Python package is installed and does not load: {error}. "
            "Run: pip install --force-reinstall 'tensorrt>=10.3,<12'; see: accel doctor"
        ) from error
    found = number(tensorrt.__version__)
    if not OLDEST <= found < NEWEST:
        raise MissingExtra(
            f"engine 'tensorrt': version {tensorrt.__version__} is installed; this engine is written "
            "for 10.3 up to 11. Run: pip install 'tensorrt>=10.3,<12'"
        )
    return tensorrt


def number(version: str) -> tuple[int, ...]:
    """ "10.16.1.11" -> (10, 16, 1, 11)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])


def member(enum: Any, name: str) -> Any:
    """A member of one of TensorRT's enums.

    Raises CandidateBroken where this version has none of that name."""
    found = enum.__members__.get(name)
    if found is None:
        known = ", ".join(sorted(enum.__members__))
        raise CandidateBroken(
            f"This TensorRT's {enum.__name__} has no {name}; it has {known}. Leave out the option "
            "that needs it, or install another TensorRT: accel doctor"
        )
    return found


def dtype(kind: Any) -> str:
    """numpy's name of a tensorrt.DataType; TensorRT's own, in small letters, where numpy has none."""
    return NUMPY.get(str(kind.name), str(kind.name).lower())


@functools.cache
def collector(trt: Any) -> Any:
    """A logger that keeps what it is told from warnings up: (severity, text), in order.

    One a process: TensorRT goes on with the first logger that it was given, whatever comes later. Who
    asks what was said remembers how many messages there were before."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[tuple[str, str]] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity.name in ("INTERNAL_ERROR", "ERROR", "WARNING"):
                self.messages.append((str(severity.name), str(msg)))

    return Log()


def warnings(messages: Sequence[tuple[str, str]]) -> list[str]:
    """Each warning once, in order; the last line counts those that are left out."""
    found = list(dict.fromkeys(text.strip() for kind, text in messages if kind == "WARNING"))
    more = len(found) - WARNINGS_KEPT
    return [*found[:WARNINGS_KEPT], *([f"and {more} more"] if more > 0 else [])]


def errors(messages: Sequence[tuple[str, str]]) -> list[str]:
    """Each error once, in order."""
    return list(dict.fromkeys(text.strip() for kind, text in messages if kind != "WARNING"))
