"""A release that someone changed: every change is named or refused, and no other error escapes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accel import bill, release, store
from accel.errors import AccelError, CandidateBroken, UsageError
from accel.questions.verify import verify
from accel.values import Release

Pack = Callable[..., Release]
NONSENSE: tuple[Any, ...] = (None, 7, "x", [], [7], {}, {"x": 7}, {"winner": 7, "portable": "x"})


def reseal(root: Path, data: dict[str, Any]) -> None:
    """Write the manifest with a digest that fits, as someone who wants to go unseen would."""
    data["digest"] = release.seal(data)
    (root / "accel.json").write_text(json.dumps(data))


def ask_everything(root: Path) -> None:
    """Each question that reads a release; only accel's own errors may come out."""
    for question in (
        release.read, release.differences, release.load, release.requests, _portable, verify, _parts,
    ):  # fmt: skip
        try:
            found = question(root)
        except AccelError:
            continue
        if isinstance(found, release.Loaded):
            found.close()


def _parts(root: Path) -> object:
    return bill.parts(release.document(root))


def _portable(root: Path) -> release.Loaded:
    return release.load(root, portable=True)


def test_a_manifest_with_a_part_missing_or_nonsense_is_refused_in_words(packed: Pack) -> None:
    """Every top-level key left out, and every one set to eight kinds of nonsense, digest and all."""
    root = packed().path
    whole = release.document(root)
    for key in whole:
        for value in (..., *NONSENSE):
            data = {k: v for k, v in whole.items() if k != key}
            reseal(root, data if value is ... else data | {key: value})
            ask_everything(root)


def test_a_candidate_with_a_part_missing_or_nonsense_is_refused_in_words(packed: Pack) -> None:
    """The same one level down, and in the winner's plan."""
    root = packed().path
    whole = release.document(root)
    for key in whole["winner"]:
        for value in (..., *NONSENSE):
            winner = {k: v for k, v in whole["winner"].items() if k != key}
            reseal(root, whole | {"winner": winner if value is ... else winner | {key: value}})
            ask_everything(root)
    for key in whole["winner"]["plan"]:
        for value in (..., *NONSENSE):
            plan = {k: v for k, v in whole["winner"]["plan"].items() if k != key}
            plan = plan if value is ... else plan | {key: value}
            reseal(root, whole | {"winner": whole["winner"] | {"plan": plan}})
            ask_everything(root)


def test_a_flipped_byte_in_any_file_is_found(packed: Pack) -> None:
    """Every file of a release in turn, the manifest itself too: nothing loads."""
    root = packed(external=True).path
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        before = path.read_bytes()
        for at in (0, len(before) // 2, len(before) - 2):
            path.write_bytes(before[:at] + bytes((before[at] ^ 1,)) + before[at + 1 :])
            with pytest.raises((UsageError, CandidateBroken)):
                release.load(root)
        path.write_bytes(before[: len(before) // 2])
        with pytest.raises((UsageError, CandidateBroken)):
            release.load(root)
        path.write_bytes(before)
    assert release.differences(root) == ()


def test_a_linked_folder_is_seen(packed: Pack, tmp_path: Path) -> None:
    """A link to a folder is a stranger like any other file."""
    root = packed().path
    (root / "more").symlink_to(tmp_path)
    assert release.differences(root) == ("more: not in the manifest",)


def test_a_pipe_in_a_files_place_does_not_hang(packed: Pack) -> None:
    """A named pipe has no bytes to digest; it is named, not waited for."""
    root = packed().path
    (root / "summary.md").unlink()
    os.mkfifo(root / "summary.md")
    assert release.differences(root) == ("summary.md: not a plain file",)


def test_a_folder_in_a_files_place_is_a_missing_file(packed: Pack) -> None:
    """A folder in a file's place is told as a missing file."""
    root = packed().path
    (root / "summary.md").unlink()
    (root / "summary.md").mkdir()
    assert release.differences(root) == ("summary.md: missing",)


def test_a_plan_that_runs_a_python_file_is_refused(packed: Pack) -> None:
    """With every digest right: a baseline's plan runs the user's module, a release's never does."""
    root = packed().path
    trap = root / "engine" / "trap.py"
    trap.parent.mkdir(exist_ok=True)
    trap.write_text(f"open({str(root.parent / 'EXECUTED')!r}, 'w')")
    (root / "engine" / "plan.txt").write_text(str(trap))
    data = release.document(root)
    for name in ("trap.py", "plan.txt"):
        data["artefacts"][f"engine/{name}"] = store.digest_file(root / "engine" / name)
    hostile = {"engine": "torch_eager", "options": {"threads": 1, "workload": str(trap)}}
    for which in ("winner", "portable"):
        plan = data[which]["plan"] | hostile | {"path": "./engine/plan.txt"}
        data[which] = data[which] | hostile | {"plan": plan}
    reseal(root, data)
    for question in (release.load, _portable, release.intact):
        with pytest.raises(UsageError, match="asks to run a Python file"):
            question(root)
    assert not (root.parent / "EXECUTED").exists()


def test_a_number_beyond_all_floats_is_no_bug(packed: Pack) -> None:
    """A budget of 400 digits, and a library whose version is a list: verify says what differs."""
    root = packed().path
    data = release.document(root)
    data["certificate"] |= {"grade": "consistent", "budget": 10**400}
    reseal(root, data)
    ask_everything(root)
    data = release.document(root)
    if data.get("provenance"):
        data["provenance"]["distributions"] = {"numpy": {"version": [], "digest": ""}}
    (root / release.BILL).write_text(
        json.dumps({"components": [], "metadata": {"component": {"version": ""}}})
    )
    data["attached"] = {release.BILL: store.digest_file(root / release.BILL)}
    reseal(root, data)
    assert not verify(root).intact


def test_a_manifest_far_larger_than_any_is_not_read(packed: Pack) -> None:
    """Three bytes of JSON can become sixty of memory."""
    root = packed().path
    (root / release.MANIFEST).write_text("[" + "[]," * (6 << 20) + "[]]")
    with pytest.raises(UsageError, match="are read"):
        release.document(root)
