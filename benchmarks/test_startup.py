"""How long a command that computes nothing takes, beside the interpreter alone.

Run by `make bench`; benchmarks/README.md says how to read it. Nothing is asserted on a time.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

ROUNDS = 20
COMMANDS = {
    "floor: python -c pass": ("-c", "pass"),
    "accel --help": ("-m", "accel", "--help"),
    "accel list engines": ("-m", "accel", "list", "engines"),
}


@pytest.mark.benchmark(group="start-up: a process from start to exit")
@pytest.mark.parametrize("name", COMMANDS)
def test_startup(benchmark: Any, name: str) -> None:
    """One process a round; the first one, which may read files from the disk, is dropped."""
    command = [sys.executable, *COMMANDS[name]]
    found = benchmark.pedantic(
        subprocess.run,
        (command,),
        {"capture_output": True, "check": False},
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    assert found.returncode == 0, found.stderr
