"""The command that a release names for making it again demands the same of it."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any, cast

import pytest

from accel import cli, pipeline
from accel.constraints import Constraints
from accel.job import EPOCHS

DEMANDS = (
    Constraints(),
    Constraints(max_drop=0.5),
    Constraints(max_drop=0.0),
    Constraints(max_drop=1.0, max_drop_relative=True, certify=True),
    Constraints(max_drop=2.0, min_speedup=1.5, max_latency_s=0.005, max_memory_bytes=500_000_000),
    Constraints(max_drop=0.00005, max_memory_bytes=1_234_567_890_123),
    Constraints(recipes=("fp32", "bf16"), engines=("onnxruntime_cpu",), objective="size"),
)


@pytest.mark.parametrize("asked", DEMANDS, ids=str)
def test_the_command_demands_what_was_asked_for(asked: Constraints) -> None:
    """Read back by the command line, it gives the very constraints, also those that demand nothing."""
    job = cast(Any, SimpleNamespace(workload=SimpleNamespace(data=None), seed=3, epochs=EPOCHS + 1))
    program, verb, *words = shlex.split(pipeline.command(job, "my model.py", "cpu-local", asked))
    assert (program, verb) == ("accel", "optimize")
    given = cli._constrained(cli.optimize.make_context("optimize", words).params)
    assert given["constraints"] == asked
    assert (given["seed"], given["epochs"]) == (3, EPOCHS + 1)
