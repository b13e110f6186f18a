"""Running a TensorRT plan: session_checks.py in a process of its own, where driver and TensorRT are fakes."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from accel.engines import _tensorrt_choice as choice
from accel.engines import _tensorrt_engine as engines
from accel.errors import CandidateBroken, UsageError

CHECKS = Path(__file__).parent / "session_checks.py"
NAMES = [
    node.name
    for node in ast.parse(CHECKS.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]
SMALL = {"x": {"min": [1, 4], "opt": [1, 4], "max": [2, 4]}}
LARGE = {"x": {"min": [1, 4], "opt": [8, 4], "max": [16, 4]}}
READ = {"size": {"min": [2], "opt": [2], "max": [2], "values": {"min": [1, 2], "max": [4, 2]}}}


@pytest.fixture(scope="module")
def outcomes(with_fake_driver: Callable[..., dict[str, list[str]]]) -> dict[str, list[str]]:
    """What became of each check: a line a failure."""
    return with_fake_driver(CHECKS)


@pytest.mark.parametrize("name", NAMES)
def test_over_a_fake_driver_and_a_fake_tensorrt(name: str, outcomes: dict[str, list[str]]) -> None:
    """The check of this name held, with each version."""
    assert outcomes[name] == [], "\n".join(outcomes[name])


def test_types_that_no_array_holds_are_refused() -> None:
    """bfloat16 is ml_dtypes' own; int4 and fp8 cannot cross the border."""
    found = engines._numpy("x", SimpleNamespace(name="BF16"))
    assert (found.name, found.itemsize) == ("bfloat16", 2)
    for kind in ("INT4", "FP8"):
        with pytest.raises(CandidateBroken, match=f"'x' is of TensorRT's type {kind.lower()}"):
            engines._numpy("x", SimpleNamespace(name=kind))


def test_the_smallest_profile_that_covers_a_shape_is_chosen() -> None:
    """Whatever the order in which the engine has them."""
    assert choice.choose([LARGE, SMALL], {"x": (2, 4)}, {}) == 1
    assert choice.choose([LARGE, SMALL], {"x": (3, 4)}, {}) == 0
    assert choice.choose([SMALL, SMALL], {"x": (1, 4)}, {}) == 0


def test_a_shape_that_no_profile_covers_is_refused_with_all_of_them() -> None:
    """Too large, of another rank, and values of an input that is read as a shape."""
    told = r"takes x \[17, 4\]\. It has: 0: x \[1\.\.16, 4\]; 1: x \[1\.\.2, 4\]"
    with pytest.raises(UsageError, match=told):
        choice.choose([LARGE, SMALL], {"x": (17, 4)}, {})
    with pytest.raises(UsageError, match="option ranges"):
        choice.choose([LARGE], {"x": (2, 4, 1)}, {})
    assert choice.choose([READ], {"size": (2,)}, {"size": [4, 2]}) == 0
    with pytest.raises(UsageError, match=r"size = \[5, 2\].*size = \[1\.\.4, 2\]"):
        choice.choose([READ], {"size": (2,)}, {"size": [5, 2]})
