"""Releases with a TensorRT plan: release_checks.py in a process where driver and TensorRT are fakes."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKS = Path(__file__).parent / "release_checks.py"
NAMES = [
    node.name
    for node in ast.parse(CHECKS.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]


@pytest.fixture(scope="module")
def outcomes(with_fake_driver: Callable[..., dict[str, list[str]]]) -> dict[str, list[str]]:
    """What became of each check: a line a failure."""
    return with_fake_driver(CHECKS)


@pytest.mark.parametrize("name", NAMES)
def test_over_a_fake_driver_and_a_fake_tensorrt(name: str, outcomes: dict[str, list[str]]) -> None:
    """The check of this name held, with each version."""
    assert outcomes[name] == [], "\n".join(outcomes[name])
