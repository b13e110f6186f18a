"""Where a gate writes: refused before it measures, never over what is not a gate's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import accel
from accel import release, testing
from accel.cli import cli
from accel.errors import EnvironmentProblem, UsageError
from accel.gating import writing
from accel.steps import gate as step
from accel.values import Release


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return testing.mlp(tmp_path / "model.onnx").path


def gate(model: Path, *words: object) -> Result:
    """A gate that ends soon, with 5: there is nothing to compare with."""
    missing = model.with_name("none.onnx")
    return CliRunner().invoke(cli, ["gate", str(model), "--baseline", str(missing), *map(str, words)])  # fmt: skip


@pytest.mark.parametrize("name", writing.FILES)
def test_a_file_that_is_not_a_gates_is_left_alone(model: Path, tmp_path: Path, name: str) -> None:
    """Whichever of its names a gate finds taken, it touches nothing there and names the file."""
    out = tmp_path / "mine"
    out.mkdir()
    for one in (name, "notes.txt"):
        (out / one).write_text('{"schema": "mine"}')
    found = gate(model, "--out", out)
    assert isinstance(found.exception, UsageError)
    assert f"{name} is not a gate's" in str(found.exception)
    assert "Choose another folder with --out, or move it away" in str(found.exception)
    assert {p.name: p.read_text() for p in out.iterdir()} == dict.fromkeys(
        (name, "notes.txt"), '{"schema": "mine"}'
    )


@pytest.mark.parametrize("below", ["", "gate"])
def test_a_release_is_no_place_for_a_verdict(
    model: Path, packed: Callable[..., Release], below: str
) -> None:
    """Its own summary.md stays, nothing is added, and accel verify finds it as it was packed."""
    root = packed().path
    found = gate(model, "--out", root / below)
    assert isinstance(found.exception, UsageError)
    assert f"lies in the release {root}" in str(found.exception)
    assert release.differences(root) == ()


def test_the_files_of_an_earlier_gate_are_replaced(model: Path, tmp_path: Path) -> None:
    """What stands beside a gate's verdict goes, before anything can fail; what else is there stays."""
    out = tmp_path / "out"
    assert gate(model, "--out", out).exit_code == 5
    (out / "notes.txt").write_text("mine")
    (out / "verdict.json").write_bytes((out / "verdict.json").read_bytes() + b"\n")
    assert gate(model, "--out", out).exit_code == 5
    assert {p.name for p in out.iterdir()} == {*writing.FILES, "notes.txt"}
    with pytest.raises(UsageError):
        accel.gate(model, model, config=tmp_path / "none.toml", out=out)
    assert [p.name for p in out.iterdir()] == ["notes.txt"]


def test_a_folder_in_the_place_of_a_file_is_told_before_any_goes(
    model: Path, tmp_path: Path
) -> None:
    """The earlier gate's other files are still there."""
    out = tmp_path / "out"
    gate(model, "--out", out)
    (out / "junit.xml").unlink()
    shutil.copytree(tmp_path / "out", out / "junit.xml")
    found = gate(model, "--out", out)
    assert isinstance(found.exception, UsageError)
    assert {p.name for p in out.iterdir()} == set(writing.FILES)


def test_a_folder_that_takes_nothing_is_told_before_the_gate_asks_anything(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/sys is there and takes no file: code 7 at the start, not at the end."""
    monkeypatch.setattr(step, "question", lambda *_: pytest.fail("the gate went on"))
    with pytest.raises(EnvironmentProblem, match="/sys/kernel"):
        accel.gate(model, model, out="/sys/kernel")
