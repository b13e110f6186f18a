"""The versions of TensorRT that a target may have, and what its ONNX parser's lists say of each."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from accel.values import Target

ENGINES = ("tensorrt",)
Version = tuple[int, int]
DEFAULT: tuple[Version, ...] = ((10, 15), (11, 5))  # of a target that tells none: one of each major
LIST_10_0 = "onnx/onnx-tensorrt docs/operators.md, 10.1 GA (2024-06-17)"
LIST_10_15 = "onnx/onnx-tensorrt docs/operators.md, 10.15 (2026-02-02)"
NOTES_11 = "NVIDIA/TensorRT release notes v11.0 to v11.5 (2026-06-02 to 2026-11-18)"
CHANGES = "onnx/onnx-tensorrt docs/Changelog.md, 10.15 (2026-02-02)"
GUIDE_11 = "NVIDIA TensorRT 11.0.0 release notes, Announcements: strongly typed networks"
FIX = "accel inspect MODEL --for TARGET --fix OUT.onnx"


def versions(target: Target) -> tuple[Version, ...]:
    """(10, 3) for software.tensorrt = "10.3"; one of each major where the target tells none."""
    told = re.findall(r"(\d+)\.(\d+)", target.software.get("tensorrt", ""))
    return tuple((int(a), int(b)) for a, b in told) or DEFAULT


def text(which: Iterable[Version]) -> str:
    """TensorRT 10.15 and 11.5."""
    return "TensorRT " + " and ".join(f"{a}.{b}" for a, b in which)


def source(version: Version) -> str:
    """The document that speaks of a version."""
    if version[0] >= 11:
        return f"{LIST_10_15}; {NOTES_11}"
    return LIST_10_15 if version >= (10, 15) else f"{LIST_10_0}; {CHANGES}"


@functools.cache
def _lists() -> Mapping[str, Any]:
    path = Path(__file__).with_name("_operators.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def parsed(version: str) -> Version:
    """ "10.4" -> (10, 4)."""
    major, minor = version.split(".")
    return int(major), int(minor)


@functools.cache
def types() -> Mapping[str, tuple[str, ...]]:
    """Operator -> element types of its list; empty where none are told."""
    return {o: tuple(k.split()) for k, names in _lists()["types"].items() for o in names}


def supported(operator: str, version: Version) -> bool | None:
    """By the lists; None where they say nothing of the operator."""
    if operator in _lists()["unsupported"]["names"]:
        return False
    if operator not in types():
        return None
    return version >= parsed(_lists()["since"].get(operator, "10.0"))


def since(operator: str) -> str:
    """The version that an operator came with; empty for one that the first list has, or none."""
    return str(_lists()["since"].get(operator, ""))


def opsets(version: Version) -> tuple[int, int]:
    """(greatest opset that a list of this version or before takes, that any later list takes).

    What lies between the two cannot be told: no list of the versions between was read."""
    known = {parsed(v): n for v, n in _lists()["opset"].items()}
    sure = max((n for v, n in known.items() if v <= version), default=min(known.values()))
    later = min((n for v, n in known.items() if v >= version), default=max(known.values()))
    return sure, max(sure, later)
