"""accel inspect --for: exit codes, the document, and the mended file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from accel import target as targets
from accel import testing
from accel.cli_inspect import inspect
from accel.values import Target
from tests.legality.building import F, H, drawn, known, model, node, target

X, Y = ("x", F, [2, 8]), ("y", F, [2, 8])
MIXED = known(
    "mixed",
    model([node("Cast", "x", "h", to=H), node("Add", "h b", "y")], [X], [Y], [drawn("b", 8)]),
    "microsoft/onnxruntime#15241",
    "bound to different types",
    "typed error",
)


def _invoke(monkeypatch: pytest.MonkeyPatch, board: Target, *words: str) -> Any:
    """The command with this target under the name "board"."""
    monkeypatch.setattr(targets, "load", lambda _: board)
    return CliRunner().invoke(inspect, words, standalone_mode=True)


def test_the_command_ends_with_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 for errors, 3 for nothing worse than unknown, 0 once feeds tell the sizes."""
    path = tmp_path / "m.onnx"
    made = testing.mlp(path)
    np.savez(tmp_path / "f.npz", **{"0/x": testing.request(made).inputs["x"]})
    found = _invoke(monkeypatch, target(), str(path), "--for", "board")
    assert found.exit_code == 3, found.output
    assert "unknown: axis batch is dynamic" in found.output
    found = _invoke(
        monkeypatch, target(), str(path), "--for", "board", "--data", str(tmp_path / "f.npz")
    )
    assert (found.exit_code, "nothing found against it" in found.output) == (0, True)
    onnx.save(MIXED.proto, path)
    found = _invoke(monkeypatch, target(), str(path), "--for", "board", "--json")
    assert found.exit_code == 1
    document = json.loads(found.stdout)
    assert document["data"]["findings"][0]["rule"] == "typed"


def test_the_command_mends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--fix writes the mended graph, tells each change, and judges what is left."""
    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    onnx.save(MIXED.proto, path)
    words = (str(path), "--for", "board", "--fix", str(out))
    found = _invoke(monkeypatch, target(), *words)
    assert found.exit_code == 0, found.output
    assert "fixed: Cast of h to FLOAT" in found.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "out.onnx"]
    onnx.save(MIXED.proto, path)
    found = _invoke(monkeypatch, target(), str(path), "--for", "board", "--fix", str(path))
    assert "is what is read" in str(found.exception)
    assert onnx.load(path) == MIXED.proto


@pytest.mark.parametrize("word", ["--data", "--fix"])
def test_words_that_go_with_for_alone(tmp_path: Path, word: str) -> None:
    """--data and --fix without --for are refused."""
    found = CliRunner().invoke(inspect, [str(tmp_path / "m.onnx"), word, "x"])
    assert "go with --for" in str(found.exception)


@pytest.mark.parametrize("words", [["--roofline"], ["--size", "batch=2"], ["--target", "t4"]])
def test_words_of_the_other_question(tmp_path: Path, words: list[str]) -> None:
    """What belongs to --roofline is refused beside --for, not passed over."""
    found = CliRunner().invoke(inspect, [str(tmp_path / "m.onnx"), "--for", "t4", *words])
    assert "ask one at a time" in str(found.exception)
