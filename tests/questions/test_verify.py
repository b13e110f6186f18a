"""accel verify tells what holds, what differs, and what nobody could tell."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from accel import catalog, manifest, release
from accel.cli import cli
from accel.errors import MissingExtra, UsageError
from accel.questions.verify import Verified, verify
from accel.values import Release

Pack = Callable[..., Release]


def edit(root: Path, **changes: Any) -> None:
    """Change the manifest, its own digest with it; None takes a key out."""
    data = {**release.document(root), **changes}
    release.rewrite(root, {k: v for k, v in data.items() if v is not ...})


def rest(found: Verified, word: str) -> str:
    """The one line of what was not verified that holds a word."""
    [line] = [line for line in found.unverified if word in line]
    return line


def test_intact_and_what_that_does_not_mean(packed: Pack) -> None:
    """Digests hold; nobody signed, nothing was run, and the lines say so with the next command."""
    root = packed().path
    found = verify(root)
    assert (found.intact, found.differences) == (True, ())
    assert found.verified == ("7 files and the manifest, by sha256",)
    assert f"accel sign {root} --key" in rest(found, "no signature")
    assert "nothing was run" in rest(found, "speed and accuracy")
    assert "no digest of them was recorded" in rest(found, "no digest of them")


def test_the_next_commands_name_the_folder_as_it_was_given(
    packed: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where the command was typed, and as one word: the release need not lie there."""
    root = packed("my release").path
    monkeypatch.chdir(root.parents[1])
    given = root.relative_to(root.parents[1])
    edit(root, certificate=None)
    assert f"accel sign '{given}' --key" in rest(verify(given), "no signature")
    assert f"accel finish '{given}'" in rest(verify(given), "none is chosen")
    (root / release.SIGNATURE).write_text("anything")
    assert f"accel verify '{given}' --key" in rest(verify(given), "was not held against a key")


def test_digests_of_what_is_elsewhere_are_named(packed: Pack) -> None:
    """What the workload yielded is recorded and cannot be recomputed from the release alone."""
    root = packed().path
    edit(root, facts={"digests": {"weights": "1", "certify": "2", "calibration": None}})
    assert rest(verify(root), "not in the release").startswith("certify, weights: ")


def test_an_older_release_says_how_little_it_recorded(packed: Pack) -> None:
    """Packed before provenance was recorded: still intact, and the gap is told."""
    root = packed().path
    edit(root, provenance=..., attached=...)
    found = verify(root)
    assert found.intact
    assert "the versions of 1 libraries, and no digests" in rest(found, "older accel")


def test_unmeasured_parts_are_told(packed: Pack) -> None:
    """Rows that wait for a device, and a release of which nothing was measured."""
    root = packed().path
    table = release.document(root)["table"]
    edit(root, table=[{**table[0], "status": "unmeasured"}, *table[1:]])
    assert rest(verify(root), "candidates: unmeasured") == "1 of 2 candidates: unmeasured"
    edit(root, certificate=None)
    assert f"accel finish {root}" in rest(verify(root), "none is chosen")


@pytest.mark.parametrize("grade", ["consistent", "violated"])
def test_a_certificate_that_proves_no_budget_is_told(packed: Pack, grade: str) -> None:
    """Only `certified` bounds the drop; the line has the bound and the budget."""
    root = packed().path
    proof = {**release.document(root)["certificate"], "grade": grade}
    edit(root, certificate=proof)
    assert f"it is {grade}, at most 0.3 at 95 %" in rest(verify(root), "budget of 0.5 pt")


def test_a_drop_without_a_bound_or_a_budget_is_told_as_that(packed: Pack) -> None:
    """JSON has no infinity: null, in a release that is intact all the same."""
    root = packed().path
    proof = {**release.document(root)["certificate"], "grade": "consistent", "bound": None}
    edit(root, certificate=proof)
    assert verify(root).intact
    assert "consistent, with no bound" in rest(verify(root), "budget of 0.5 pt")
    edit(root, certificate={**proof, "budget": None})
    assert "a drop inside no budget" in rest(verify(root), "consistent")


@pytest.mark.parametrize(
    ("engine", "options", "told"),
    [
        ("torch_inductor", {}, True),
        ("tensorrt", {}, True),
        ("onnxruntime_cuda", {"provider": "tensorrt"}, True),
        ("onnxruntime_cuda", {"provider": "cuda"}, False),
        ("onnxruntime_cpu", {}, False),
        ("openvino", {}, False),
        ("an_engine_to_come", {}, False),
    ],
)
def test_a_plan_that_is_native_code_is_told(
    packed: Pack, engine: str, options: dict[str, Any], told: bool
) -> None:
    """Intact, and it may do anything; nothing of the engine is imported to say so."""
    root = packed().path
    winner = release.document(root)["winner"]
    plan = {**winner["plan"], "engine": engine, "options": {**winner["plan"]["options"], **options}}
    edit(root, winner={**winner, "engine": engine, "plan": plan})
    found = verify(root)
    lines = [line for line in found.unverified if "native code" in line]
    assert found.intact
    assert lines == [line for line in lines if f"the plan of {engine} " in line]
    assert len(lines) == told


@pytest.mark.parametrize("name", catalog.names("engines"))
def test_what_an_engine_says_of_itself_is_read_right(name: str) -> None:
    """In its file, as it stands in the module."""
    try:
        module = catalog.load("engines", name)
    except MissingExtra as error:
        pytest.skip(f"{error} What it says is read in test_a_plan_that_is_native_code_is_told")
    for word in ("NATIVE", "BASELINE", "KERNELS"):
        assert catalog.constant("engines", name, word) == getattr(module, word, None)


def test_a_library_without_a_record_is_named(packed: Pack) -> None:
    """Its version is known, its files are not."""
    root = packed().path
    made = release.document(root)["provenance"]
    made["distributions"]["by-hand"] = {"version": "1", "digest": ""}
    edit(root, provenance=made)
    assert "by-hand" in rest(verify(root), "known by version only")


def test_a_manifest_that_was_emptied_is_refused(packed: Pack) -> None:
    """Sealed anew, so that nothing differs: what is not there is not passed over."""
    root = packed().path
    for key in ("table", "certificate", "versions", "facts"):
        whole = release.document(root)
        edit(root, provenance=..., **{key: ...})
        with pytest.raises(UsageError, match="not complete"):
            verify(root)
        release.rewrite(root, whole)


def test_only_a_bill_and_a_signature_may_come_later(packed: Pack) -> None:
    """What else is named as attached is a stranger, and no name of a sealed file can be taken."""
    root = packed().path
    (root / "evil.so").write_bytes(b"x")
    (root / "model.onnx").write_bytes(b"x")
    digest = {"evil.so": "0", "model.onnx": release.store.digest_file(root / "model.onnx")}
    edit(root, attached=digest)
    lines = verify(root).differences
    assert "evil.so: not in the manifest" in lines
    assert any(line.startswith("model.onnx: sha256 ") for line in lines)


def test_names_cannot_command_a_terminal(packed: Pack) -> None:
    """What a stranger's file is called is shown, its control characters as text."""
    root = packed().path
    (root / "a\x1b[31m\nrelease: intact").write_text("x")
    found = CliRunner().invoke(cli, ["verify", str(root)])
    assert found.exit_code == 1
    assert r"a\x1b[31m\nrelease: intact: not in the manifest" in found.stdout
    assert "\x1b" not in found.stdout


def test_the_document_and_the_lines_tell_the_same(packed: Pack) -> None:
    """--json has every line of the text."""
    root = packed().path
    plain = CliRunner().invoke(cli, ["verify", str(root)])
    told = CliRunner().invoke(cli, ["verify", str(root), "--json"])
    data = json.loads(told.stdout)["data"]
    assert (plain.exit_code, told.exit_code) == (0, 0)
    assert plain.stdout == told.stderr
    lines = [f"{root}: intact", *(f"verified: {x}" for x in data["verified"])]
    assert plain.stdout.splitlines() == [
        *lines,
        *(f"not verified: {x}" for x in data["unverified"]),
    ]
    assert data == json.loads(manifest.text(dataclasses.asdict(verify(root))))
