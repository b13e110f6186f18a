"""The main job on a real model: one run of the small example, end to end."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits.py"


def _accel(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "accel", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.alone
def test_optimize_packs_a_certified_release(digits_run: SimpleNamespace) -> None:
    """The winner kept its accuracy, and every loser has its reason."""
    assert digits_run.done.returncode == 0, digits_run.done.stderr
    document = json.loads(digits_run.done.stdout)
    assert document["schema"] == "accel/release"
    release = document["data"]
    assert release["certificate"]["grade"] == "certified"
    assert {b["name"] for b in release["baselines"]} >= {"torch eager"}
    assert all(c["reason"] for c in release["table"] if c["status"] in ("pruned", "refused"))


@pytest.mark.alone
def test_every_timed_candidate_has_its_roofline(digits_run: SimpleNamespace) -> None:
    """The floor stands beside each time, baselines too, and the release tells the rates behind it."""
    release = json.loads(digits_run.done.stdout)["data"]
    timed = [c for c in (*release["table"], *release["baselines"]) if c["objective_s"]]
    assert timed
    assert all(c["floor_s"] > 0 for c in timed)
    told = json.loads((digits_run.folder / "release" / "accel.json").read_text(encoding="utf-8"))
    assert told["facts"]["rates"]["source"] == "measured ceilings of this machine"
    assert "of the roofline" in (digits_run.folder / "release" / "summary.md").read_text()


@pytest.mark.alone
def test_the_command_that_makes_it_again_is_whole(digits_run: SimpleNamespace) -> None:
    """Every word that decides anything is in it."""
    told = (digits_run.folder / "release" / "reproduce.sh").read_text(encoding="utf-8")
    assert f"accel optimize {digits_run.words[0]} " in told
    for option, value in zip(digits_run.words[1::2], digits_run.words[2::2], strict=True):
        assert f"{option} {value}" in told


@pytest.mark.alone
def test_the_release_verifies_and_loads(digits_run: SimpleNamespace) -> None:
    """What was packed is intact, loads after its smoke test, and answers."""
    import accel

    folder = digits_run.folder
    assert _accel("verify", "release", cwd=folder).returncode == 0
    session = accel.load(folder / "release")
    assert session({"image": np.zeros((3, 1, 8, 8), np.float32)})["logits"].shape == (3, 10)
    session.close()
    graph = folder / "release" / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"x")
    assert _accel("verify", "release", cwd=folder).returncode == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["optimize", "nothing.py"], 2, "nothing.py is not a file"),
        (["optimize", str(EXAMPLE), "--max-drop", "0.5"], 2, "needs one of the units pt, %"),
        (["optimize", str(EXAMPLE), "--target", "cpu-locl"], 2, "Did you mean 'cpu-local'?"),
        (["optimize", str(EXAMPLE), "--epochs", "1"], 2, "x>=2"),
        (["optimize", str(EXAMPLE), "--objective", "energy"], 2, "no energy counter"),
        (["inspect", str(EXAMPLE)], 2, "is Python, not an ONNX model"),
        (["verify", "."], 2, "is not a release"),
        (["list", "engines"], 0, ""),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_every_ending_has_its_exit_code(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    """A wrong word gets one clear message and its code, never a traceback."""
    found = _accel(*words, cwd=tmp_path)
    assert found.returncode == code, found.stderr
    assert said in found.stderr
    assert "Traceback" not in found.stderr
