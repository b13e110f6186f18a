"""Launching: launch_checks.py and refusal_checks.py in a process of its own, where libcuda.so.1 is a fake; and no driver."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from accel.cli import cli
from accel.errors import MissingExtra

HERE = Path(__file__).parent
CHECKS = (HERE / "launch_checks.py", HERE / "refusal_checks.py")
NAMES = [
    node.name
    for path in CHECKS
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]


@pytest.fixture(scope="module")
def outcomes(with_fake_driver: Callable[..., dict[str, list[str]]]) -> dict[str, list[str]]:
    """What became of each check: a line a failure."""
    return with_fake_driver(*CHECKS)


@pytest.mark.parametrize("name", NAMES)
def test_with_a_fake_driver(name: str, outcomes: dict[str, list[str]]) -> None:
    """The check of this name held, in all its cases."""
    assert outcomes[name] == [], "\n".join(outcomes[name])


def test_without_a_driver_the_error_says_what_can_be_done() -> None:
    """In our words, with the next command."""
    from accel.cuda import driver, launch

    try:
        driver.api()
    except MissingExtra:
        pass
    else:
        pytest.skip("this machine has a driver; instead: tests/gpu/test_launch.py uses it")
    with pytest.raises(MissingExtra, match=r"No CUDA driver can be used here: .*kernels check"):
        launch.prepare("residual_layernorm", "float32")
    found = CliRunner().invoke(cli, ["kernels", "bench", "--kernel", "residual_layernorm"])
    assert isinstance(found.exception, MissingExtra)
