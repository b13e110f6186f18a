"""What a user may not read or write: exit 7, the place that the user named, and what to do about it.

The commands run without root's leave to pass over permissions, whoever runs the tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from accel import arrays, testing
from accel.values import Release

# prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH); one who is not root has neither
PLAIN_USER = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "accel", *sys.argv[1:]])
"""
WITHOUT = "cyclonedx-python-lib is not installed (pip install -e '.[sbom]'); instead: "
WITHOUT += "tests/test_store.py, test_a_file_that_is_there_is_named_and_a_draft_is_not"
READ_ONLY, NOTHING = 0o555, 0


def accel(cwd: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A command of a user who may do what permissions say."""
    line = [sys.executable, "-c", PLAIN_USER, *map(str, words)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, feeds that may not be read, a folder that takes nothing, and one that tells nothing."""
    model = testing.mlp(tmp_path / "a.onnx")
    arrays.save(tmp_path / "shut.npz", [testing.request(model).inputs])
    (tmp_path / "shut.npz").chmod(NOTHING)
    (tmp_path / "taken").mkdir(mode=READ_ONLY)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "store").mkdir(mode=0o300)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("build a.onnx --out taken", "/taken cannot be written"),
        ("bench a.onnx --out taken --epochs 1 --quiet", "accel: taken cannot be written"),
        ("gate a.onnx --baseline b.onnx --out taken", "/taken cannot be written"),
        ("check a.onnx --against a.onnx --data shut.npz", "shut.npz cannot be read"),
        ("cache list --work work", "work/store cannot be read"),
    ],
)
def test_no_permission_is_the_environments_problem(folder: Path, words: str, said: str) -> None:
    """Neither the model nor the words are at fault, and no temporary name is told."""
    found = accel(folder, *words.split())
    assert found.returncode == 7, found.stderr
    assert f"{said} (Permission denied). Change its permissions, or " in found.stderr


def test_a_manifest_that_may_not_be_read_is_not_a_broken_one(
    tmp_path: Path, packed: Callable[..., Release]
) -> None:
    """accel verify cannot tell, and says whose leave is missing."""
    manifest = packed().path / "accel.json"
    manifest.chmod(NOTHING)
    found = accel(tmp_path, "verify", "release")
    assert found.returncode == 7, found.stderr
    assert f"{manifest} cannot be read (Permission denied)" in found.stderr


@pytest.mark.parametrize(("there", "code"), [("a folder", 2), ("a folder that takes nothing", 7)])
def test_a_bill_names_its_own_place(
    tmp_path: Path, packed: Callable[..., Release], there: str, code: int
) -> None:
    """Not the draft's, which is gone when the user looks."""
    pytest.importorskip("cyclonedx", reason=WITHOUT)
    packed()
    place = tmp_path / "place"
    place.mkdir(mode=0o755 if code == 2 else READ_ONLY)
    out = place if code == 2 else place / "bill.json"
    found = accel(tmp_path, "sbom", "release", "--out", out)
    assert found.returncode == code, found.stderr
    assert found.stderr.startswith(f"accel: {out}")
    assert "with --out" in found.stderr


@pytest.mark.parametrize("shut", ["", "kernels", "model.onnx"])
def test_what_may_not_be_read_is_not_an_altered_release(
    tmp_path: Path, packed: Callable[..., Release], shut: str
) -> None:
    """Packed under another umask, or by another user: its files are not missing."""
    place = packed().path / shut
    if not place.exists():
        place.mkdir()
    before = place.stat().st_mode
    place.chmod(NOTHING)
    found = accel(tmp_path, "verify", "release")
    place.chmod(before)
    assert found.returncode == 7, found.stderr
    assert "cannot be read (Permission denied)" in found.stderr
