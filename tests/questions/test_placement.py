"""accel inspect --placement, build and check: where nodes run, as a user is told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from accel import testing
from accel.cli import cli
from accel.errors import Unmeasured, UsageError
from accel.questions.placement import placement
from accel.report import summary
from accel.values import Release

RUNS = "2 nodes: 100% CPU, 2 float32, all as planned"  # the tiny graph: MatMul, Relu


def test_a_release_tells_of_every_candidate(packed: Callable[..., Release]) -> None:
    """The winner first, each with its engine and the numbers that a gate can hold."""
    found = placement(packed().path)
    assert [(w.name, w.engine) for w in found] == [
        ("fast", "onnxruntime_cpu"),
        ("plain", "onnxruntime_cpu"),
    ]
    assert found[0].metrics["coverage.CPU"] == 1.0
    assert found[0].metrics["nodes.float32"] == 2


def test_what_is_no_release_is_refused(tmp_path: Path) -> None:
    """A folder, or a graph: there is no manifest to read."""
    with pytest.raises(UsageError, match="is not a release"):
        placement(testing.mlp(tmp_path / "m.onnx").path)


def test_engines_that_do_not_tell_are_named(packed: Callable[..., Release]) -> None:
    """A release of before there were placements: exit 3, with the engines that it was built for."""
    path = packed().path
    manifest = json.loads((path / "accel.json").read_text())
    for candidate in (manifest["winner"], *manifest["table"]):
        del candidate["plan"]["placement"]
    (path / "accel.json").write_text(json.dumps(manifest))
    with pytest.raises(Unmeasured, match=r"holds no placement \(engines: onnxruntime_cpu\)"):
        placement(path)


def test_the_command_tells_it(packed: Callable[..., Release]) -> None:
    """In lines, the winner's first; and as one document with --json."""
    path = str(packed().path)
    said = CliRunner().invoke(cli, ["inspect", path, "--placement"])
    assert said.exit_code == 0, said.output
    assert said.output.splitlines()[:3] == ["fast:", f"  {RUNS}", "  float32: MatMul 1, Relu 1"]
    assert f"plain: {RUNS}" in said.output
    told = CliRunner().invoke(cli, ["inspect", path, "--placement", "--json"])
    assert json.loads(told.stdout)["data"][0]["metrics"]["nodes_fallen"] == 0


def test_the_summary_says_where_the_winner_runs(packed: Callable[..., Release]) -> None:
    """A section of its own, also in the packed file; absent where the engine does not tell."""
    made = packed()
    assert f"## Where it runs\n\n- {RUNS}" in (made.path / "summary.md").read_text()
    assert made.winner.plan is not None
    plan = dataclasses.replace(made.winner.plan, placement=None)
    silent = dataclasses.replace(made, winner=dataclasses.replace(made.winner, plan=plan))
    assert "Where it runs" not in summary.text(silent)


def test_build_and_check_tell_it_in_a_line(tmp_path: Path) -> None:
    """Beside what was built, and below how far the outputs are from the reference."""
    model = str(testing.mlp(tmp_path / "m.onnx").path)
    line = "3 nodes: 100% CPU, 3 float32, all as planned"
    built = CliRunner().invoke(cli, ["build", model, "--out", str(tmp_path / "plan")])
    assert line in built.output.splitlines()
    checked = CliRunner().invoke(cli, ["check", model, "--against", model])
    assert line in checked.output.splitlines()
