"""The options of a TensorRT build: which there are, what they may be, which are worth a trial. Pure.

threads            how many the builder may use
profiles           optimization profiles at most, 1
ranges             axis symbol -> [smallest, largest], in place of what the requests have
room               how many times the largest requested size a profile takes, 1 to 16, 2
level              builder optimization level, 0 to 5, 3
tf32               float32 matrix products may round their inputs to 10 bits of mantissa
workspace_bytes    scratch memory at most; never more than fits into what is free
version_compatible, hardware_compatibility
                   the plan runs under newer TensorRTs; on "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"
strip_plan         the plan holds no weights; they are put in from model.onnx beside it at load
dla                the core of a deep learning accelerator; the rest runs on the GPU
rebuilds           how often the build is repeated, to see whether it comes out the same
timing_cache       a file of timings to begin with, such as the one in a release
cuda_graph         the session captures and replays its launches
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from accel.engines._tensorrt_ladder import LEVEL, LEVELS
from accel.engines._tensorrt_profiles import ROOM
from accel.errors import CandidateBroken, UsageError
from accel.measure import machine
from accel.values import Options, Request, Target

SILENT = ("padding",)  # what every engine is given, and this one has no use for
LEVELS_OF_HARDWARE = ("NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")
PROFILES = 3  # tried beside one: more cost memory, and each its part of the build
TF32_SINCE = (8, 0)  # Ampere (TensorRT support matrix, Hardware and Precision)


@dataclass(frozen=True)
class Choices:
    """The options of one build, checked."""

    threads: int
    profiles: int = 1
    room: int = ROOM
    ranges: Mapping[str, Sequence[int]] = field(default_factory=dict)
    level: int = LEVEL
    tf32: bool = False
    workspace_bytes: int | None = None
    version_compatible: bool = False
    hardware_compatibility: str = "NONE"
    strip_plan: bool = False
    dla: int | None = None
    rebuilds: int = 0
    timing_cache: str | None = None
    cuda_graph: bool = False


def read(options: Options, target: Target) -> Choices:
    """Raises UsageError for an unknown option or a wrong value, CandidateBroken for a DLA core that
    the target has not."""
    given = {k: v for k, v in options.items() if k not in SILENT}
    given.setdefault("threads", target.threads or machine.cores())
    known = [f.name for f in fields(Choices)]
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"tensorrt has no option {key!r}.{hint} It has {', '.join(known)}.")
        words, right = KINDS[key]
        if not right(value):
            raise UsageError(f"tensorrt: {key} must be {words}, not {value!r}.")
    found = Choices(**given)
    if found.dla is not None and found.dla >= target.dla_cores:
        raise CandidateBroken(
            f"DLA core {found.dla} was asked for; target {target.name!r} has {target.dla_cores}. "
            "Leave dla out, or give the target dla_cores."
        )
    return found


def offered(
    recipe: str, target: Target, requests: Sequence[Request], capability: tuple[int, ...] | None
) -> tuple[Options, ...]:
    """Most promising first: one profile; several where the requests differ in shape; TF32 for fp32
    graphs on a GPU that has it; a DLA core for fp16, which is what those compute in."""
    base: Options = {"threads": target.threads or machine.cores(), "cuda_graph": True}
    found = [base]
    shapes = {tuple(a.shape for a in r.inputs.values()) for r in requests}
    if len(shapes) > 1:
        found.append({**base, "profiles": min(PROFILES, len(shapes))})
    if recipe == "fp32" and capability is not None and capability >= TF32_SINCE:
        found.append({**base, "tf32": True})
    if recipe == "fp16" and target.dla_cores:
        found.append({**base, "dla": 0})
    return tuple(found)


def _whole(least: int, most: int | None = None) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and v >= least and (most is None or v <= most)


def _none_or(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: v is None or right(v)


def _pairs(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(type(n) is int for n in pair)
        for pair in value.values()
    )


_FLAG: tuple[str, Callable[[Any], bool]] = ("true or false", lambda v: isinstance(v, bool))
KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "threads": ("a whole number above 0", _whole(1)),
    "profiles": ("a whole number from 1 to 8", _whole(1, 8)),
    "room": ("a whole number from 1 to 16", _whole(1, 16)),
    "ranges": ('a table such as {"batch": [1, 8]}', _pairs),
    "level": ("a whole number from 0 to 5", _whole(LEVELS[0], LEVELS[-1])),
    "tf32": _FLAG,
    "workspace_bytes": ("a whole number above 0", _none_or(_whole(1))),
    "version_compatible": _FLAG,
    "hardware_compatibility": (
        f"one of {', '.join(LEVELS_OF_HARDWARE)}",
        lambda v: v in LEVELS_OF_HARDWARE,
    ),
    "strip_plan": _FLAG,
    "dla": ("the number of a core, 0 or more", _none_or(_whole(0))),
    "rebuilds": ("a whole number from 0 to 8", _whole(0, 8)),
    "timing_cache": ("the path of a file", _none_or(lambda v: isinstance(v, str) and v != "")),
    "cuda_graph": _FLAG,
}
