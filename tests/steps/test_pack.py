"""Packing a release: whole or not at all, the same bytes again, and nobody's files lost."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from accel import release
from accel.errors import CandidateBroken, UsageError
from accel.values import Release

Pack = Callable[..., Release]


def test_the_same_again(packed: Pack, tmp_path: Path) -> None:
    """Two packs of the same inputs have the same artefact digests and no path of this machine."""
    one, two = packed("one").path, packed("two").path
    assert release.document(one)["artefacts"] == release.document(two)["artefacts"]
    assert str(tmp_path) not in (one / "accel.json").read_text()
    assert str(tmp_path) not in (one / "summary.md").read_text()


def test_what_is_in_it(packed: Pack) -> None:
    """The files of the design are there, the engine folder only where the plan is another file."""
    root = packed().path
    assert {p.name for p in root.iterdir()} == {
        "accel.json", "model.onnx", "golden.npz", "requests.npz", "rows.npz",
        "samples.npz", "summary.md", "reproduce.sh",
    }  # fmt: skip
    data = release.document(root)
    assert data["winner"]["plan"]["path"] == "./model.onnx"
    assert set(data["measurements"]) == {"samples.npz", "summary.md"}
    assert (data["serving"], data["monitoring"], data["signatures"]) == (None, None, [])
    assert subprocess.run(["sh", "-n", root / "reproduce.sh"]).returncode == 0
    assert os.access(root / "reproduce.sh", os.X_OK)


def test_not_portable_winner(packed: Pack) -> None:
    """A winner with private operators goes to engine/, the best portable graph beside it."""
    found = packed(portable=False)
    assert found.winner.plan is not None
    assert found.winner.plan.path.is_relative_to(found.path / "engine")
    assert (found.path / "model.onnx").is_file()
    assert release.document(found.path)["portable"]["name"] == "plain"
    release.load(found.path).close()


def test_external_data_comes_along(packed: Pack) -> None:
    """Weights kept beside the graph are copied under their own name."""
    root = packed(external=True).path
    assert "w.bin" in release.document(root)["artefacts"]
    release.load(root).close()


def test_replaces_a_release_only(packed: Pack, tmp_path: Path) -> None:
    """A release is replaced; a stranger's folder, or a file added to a release, is kept."""
    root = packed().path
    before = (root / "accel.json").stat().st_ino
    assert packed().path == root
    assert (root / "accel.json").stat().st_ino != before
    (root / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt.*left as it is"):
        packed()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not a release"):
        packed("mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_failure_leaves_the_old_one(packed: Pack, tmp_path: Path) -> None:
    """When packing fails, what stood there still stands and no temporary folder is left."""
    root = packed().path
    digest = release.document(root)["digest"]
    with pytest.raises(CandidateBroken, match="does not give the reference's outputs"):
        packed(spoil=np.nan)
    assert release.document(root)["digest"] == digest
    assert not list(tmp_path.glob(".release*"))


@pytest.mark.parametrize("name", ["release", "release[1]", "re?ease", "release*"])
def test_killed_between_the_renames(packed: Pack, tmp_path: Path, name: str) -> None:
    """What a killed pack left behind is cleared, and the release that it had set aside is kept."""
    root = packed(name).path
    root.rename(tmp_path / f".{name}.packing-99999999~")
    (tmp_path / f".{name}.packing-99999999").mkdir()
    with pytest.raises(CandidateBroken, match="does not give the reference's outputs"):
        packed(name, spoil=np.nan)
    assert release.differences(root) == ()
    assert [p.name for p in tmp_path.iterdir() if ".packing-" in p.name] == []


def test_one_that_is_at_work_is_not_cleared(packed: Pack, tmp_path: Path) -> None:
    """Its lock tells, not a process number: in two containers both may be 1."""
    (tmp_path / ".release.packing-1").mkdir()
    handle = os.open(tmp_path / ".release.packing-1", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    packed()
    assert (tmp_path / ".release.packing-1").is_dir()
    os.close(handle)
    packed()
    assert not list(tmp_path.glob(".release*"))
