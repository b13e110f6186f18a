"""Where a gate writes: refused before it measures, never over what is not a gate's own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import accel
from accel import release, testing
from accel.cli import cli
from accel.errors import EnvironmentProblem, UsageError
from accel.gating import history, writing
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


def test_a_release_is_no_place_for_evidence(
    packed: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named, or the usual folder where one stands in a release: it stays as it was packed."""
    root, old = packed().path, packed("old").path
    monkeypatch.chdir(root)
    for words in ({"work": root / ".accel"}, {}):
        with pytest.raises(UsageError, match=r"lies in the release .* with --work\."):
            accel.gate(root, old, **words)
    assert release.differences(root) == ()


def test_a_refused_place_leaves_no_earlier_verdict(
    model: Path, packed: Callable[..., Release], tmp_path: Path
) -> None:
    """A PASS of yesterday beside today's exit code 2 would be read as today's."""
    root, old, out = packed().path, packed("old").path, tmp_path / "out"
    assert gate(model, "--out", out).exit_code == 5
    assert (out / "verdict.json").exists()
    with pytest.raises(UsageError, match="--work"):
        accel.gate(root, old, work=root / ".accel", out=out)
    assert not (out / "verdict.json").exists()


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


PLACES = {  # what names a file for a gate to add to -> the words and the environment of a gate
    "--history": lambda place: (("--history", place), {}),
    "GITHUB_STEP_SUMMARY": lambda place: ((), {"GITHUB_STEP_SUMMARY": str(place)}),
    "GITHUB_OUTPUT": lambda place: ((), {"GITHUB_OUTPUT": str(place)}),
}


@pytest.mark.parametrize("option", PLACES)
def test_a_place_that_cannot_be_added_to_is_told_before_the_gate(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """A folder where a file is due is named with the word that chose it, and nothing is measured."""
    words, environ = PLACES[option](tmp_path)
    monkeypatch.setattr(step, "gate", lambda *_, **__: pytest.fail("the gate went on"))
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    found = gate(model, *words, "--json")
    assert isinstance(found.exception, UsageError)
    assert str(found.exception) == f"{tmp_path}: Is a directory. Choose another with {option}."
    assert not found.stdout


def test_a_history_that_is_none_is_told_before_the_gate(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the user's whose last line is another's is found out at once, and stays."""
    monkeypatch.setattr(step, "gate", lambda *_, **__: pytest.fail("the gate went on"))
    notes = tmp_path / "notes.jsonl"
    notes.write_text('{"mine": 1}')
    found = gate(model, "--history", notes)
    assert isinstance(found.exception, UsageError)
    assert "notes.jsonl line 1" in str(found.exception)
    assert notes.read_text() == '{"mine": 1}'


def test_a_history_that_is_not_there_yet_is_not_made_by_asking(tmp_path: Path) -> None:
    """Nor is anything left beside it; a place that takes nothing is the machine's trouble."""
    history.claim(tmp_path / "deep" / history.FILE)
    assert list((tmp_path / "deep").iterdir()) == []
    with pytest.raises(EnvironmentProblem, match="with --history"):
        history.claim(Path("/sys/kernel") / history.FILE)


def test_trouble_after_the_verdict_leaves_its_code_and_its_document(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full by then is told on stderr; stdout holds one document, and 5 is the code."""

    def full(*_: object) -> None:
        raise EnvironmentProblem("The disk is full.")

    monkeypatch.setattr(history, "append", full)
    monkeypatch.setattr(writing, "publish", full)
    found = gate(model, "--history", model.with_name(history.FILE), "--json")
    assert found.exit_code == json.loads(found.stdout)["data"]["exit_code"] == 5
    assert found.stderr.count("accel: The disk is full. The verdict stands.") == 2


def test_a_verdict_keeps_its_code_where_nobody_can_read_about_it(model: Path) -> None:
    """With --json, a stderr on a full disk changes neither the code nor the one document."""
    with Path("/dev/full").open("w") as device:
        done = subprocess.run(
            [sys.executable, "-m", "accel", "gate", model, "--baseline", "none.onnx", "--json"],
            cwd=model.parent, stdout=subprocess.PIPE, stderr=device, text=True,
        )  # fmt: skip
    assert done.returncode == json.loads(done.stdout)["data"]["exit_code"] == 5
