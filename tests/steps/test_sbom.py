"""accel sbom: a bill of materials that says what the manifest says, and is CycloneDX."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from accel import bill, disk, release
from accel.cli import cli
from accel.errors import CandidateBroken, MissingExtra, UsageError
from accel.questions.verify import verify
from accel.steps.sbom import add, sbom
from accel.steps.sign import sign
from accel.values import Release

Pack = Callable[..., Release]
WITHOUT = "cyclonedx-python-lib is not installed (pip install -e '.[sbom]'); instead: "
WITHOUT += "test_without_the_extra, whose bill is written by hand"


@pytest.fixture
def billed(packed: Pack) -> Path:
    """A release with its bill."""
    pytest.importorskip("cyclonedx", reason=WITHOUT)
    root = packed(external=True).path
    sbom(root)
    return root


def edit(root: Path, change: Callable[[Any], None]) -> None:
    """Change the bill and write its digest anew, as someone who wants to go unseen would."""
    path = root / release.BILL
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    told = {release.BILL: release.store.digest_file(path)}
    release.rewrite(root, {**release.document(root), "attached": told})


def test_it_names_every_file_and_every_library(billed: Path) -> None:
    """Files with their sha256, libraries with version and address, accel and Python."""
    found = json.loads((billed / release.BILL).read_text())
    data = release.document(billed)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["version"] == data["digest"]
    parts = {one["name"]: one for one in found["components"]}
    for name, digest in release.files(data).items():
        assert parts[name]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert parts["model.onnx"]["type"] == "machine-learning-model"
    for name, one in data["provenance"]["distributions"].items():
        assert parts[name]["purl"] == f"pkg:pypi/{name}@{quote(one['version'])}"
    assert {"accel-inference", "CPython"} <= set(parts)
    [graph] = [one for one in found["dependencies"] if one["ref"] == "release"]
    assert len(graph["dependsOn"]) == len(parts)


def test_the_release_is_the_same_release_with_it(packed: Pack) -> None:
    """Its digest, by which a gate knows it, stays; a second bill takes the place of the first."""
    pytest.importorskip("cyclonedx", reason=WITHOUT)
    root = packed().path
    before = release.document(root)
    sbom(root)
    sbom(root)
    after = release.document(root)
    assert {k: v for k, v in after.items() if k != "attached"} == {
        k: v for k, v in before.items() if k != "attached"
    }
    found = verify(root)
    assert found.intact
    assert "sbom.cdx.json, by the manifest and by the schema of CycloneDX" in found.verified
    release.load(root).close()


def test_a_changed_bill_is_named(billed: Path) -> None:
    """One byte, or the whole file."""
    path = billed / release.BILL
    path.write_text(path.read_text().replace("CPython", "PyPython"))
    found = verify(billed)
    assert any(line.startswith("sbom.cdx.json: sha256 ") for line in found.differences)
    assert "sbom.cdx.json: names platform PyPython" in " ".join(found.differences)
    path.unlink()
    assert verify(billed).differences == ("sbom.cdx.json: missing",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["components"].pop(), "does not name "),
        (lambda d: d["components"][0].update(version="6.6.6"), "6.6.6, the manifest does not"),
        (lambda d: d["metadata"]["component"].update(version="0"), "is of another release"),
        (lambda d: d.update(components=7), "no bill of materials"),
        (lambda d: d.update(components=[{"type": [], "name": "x"}]), "no bill of materials"),
        (lambda d: d.update(metadata={}), "no bill of materials"),
        (lambda d: d.update(vulnerabilties=[]), "not CycloneDX"),
        (lambda d: d.update(serialNumber="urn:uuid:7"), "not CycloneDX"),
    ],
)  # fmt: skip
def test_a_bill_that_lies_is_found_though_its_digest_fits(
    billed: Path, change: Callable[[Any], None], said: str
) -> None:
    """By the manifest, and by CycloneDX's own schema; exit 1 and one line."""
    edit(billed, change)
    found = CliRunner().invoke(cli, ["verify", str(billed)])
    assert found.exit_code == 1
    assert said in found.stdout
    assert all(line.startswith("sbom.cdx.json: ") for line in verify(billed).differences)


def test_a_bill_that_nobody_told_of_is_a_stranger(billed: Path) -> None:
    """The manifest has its digest, or it does not count."""
    release.rewrite(billed, {**release.document(billed), "attached": {}})
    assert verify(billed).differences == ("sbom.cdx.json: not in the manifest",)


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
@pytest.mark.parametrize("again", [False, True])
def test_killed_at_any_moment_the_release_loads(
    packed: Pack, monkeypatch: pytest.MonkeyPatch, writes: int, again: bool
) -> None:
    """With no bill told, or the whole one, and the next run mends it; a bill in place of another too."""
    root = packed().path
    if again:
        add(root, "{}")
    real, left = disk.write, [None] * writes

    def write(*words: Any) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        real(*words)

    monkeypatch.setattr(disk, "write", write)
    with contextlib.suppress(KeyboardInterrupt):
        add(root, "[]")
    monkeypatch.undo()
    assert set(release.differences(root)) <= {"sbom.cdx.json: not in the manifest"}
    release.load(root).close()
    assert release.intact(root).path.is_file()
    add(root, "[]")
    assert release.differences(root) == ()


def test_elsewhere_it_changes_nothing(packed: Pack, tmp_path: Path) -> None:
    """--out writes beside the release, for a signed one too."""
    pytest.importorskip("cyclonedx", reason=WITHOUT)
    root = packed().path
    before = (root / "accel.json").read_bytes()
    out = tmp_path / "bill.json"
    done = CliRunner().invoke(cli, ["sbom", str(root), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert bill.invalid(out.read_text()) == ""
    assert (root / "accel.json").read_bytes() == before
    assert not (root / release.BILL).exists()


def test_a_signature_is_not_broken_by_it(
    packed: Pack, keys: Callable[..., tuple[Path, Path]]
) -> None:
    """Into a signed release it is refused; `sign --sbom` puts it in and signs it too."""
    pytest.importorskip("cyclonedx", reason=WITHOUT)
    root, (private, public) = packed().path, keys("own")
    sign(root, private)
    with pytest.raises(UsageError, match=r"signed.*accel sign .* --sbom"):
        sbom(root)
    assert verify(root, public).intact
    sign(root, private, sbom=True)
    assert verify(root, public).intact
    edit(root, lambda d: d["metadata"].update(timestamp="2020-01-01T00:00:00+00:00"))
    assert verify(root).intact  # it goes unseen without the key
    [line] = verify(root, public).differences
    assert line.startswith("model.sig: does not hold")


def test_what_differs_gets_no_bill(packed: Pack) -> None:
    """It would list digests that are not those of the files."""
    pytest.importorskip("cyclonedx", reason=WITHOUT)
    root = packed().path
    (root / "rows.npz").write_bytes(b"x")
    with pytest.raises(CandidateBroken, match=r"rows\.npz"):
        sbom(root)


def test_an_older_release_is_billed_by_what_it_recorded(packed: Pack) -> None:
    """Files and the versions of some libraries; no more is made up."""
    pytest.importorskip("cyclonedx", reason=WITHOUT)
    root = packed().path
    data = release.document(root)
    del data["provenance"]
    release.rewrite(root, data)
    sbom(root)
    found = json.loads((root / release.BILL).read_text())
    libraries = [one["name"] for one in found["components"] if one["type"] == "library"]
    assert libraries == ["onnxruntime"]
    assert verify(root).intact


def test_without_the_extra(packed: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is made; one that came along is held against the manifest, and the rest is told."""
    root = packed().path
    monkeypatch.setitem(sys.modules, "cyclonedx", None)
    with pytest.raises(MissingExtra, match=r"pip install 'accel-inference\[sbom\]'"):
        sbom(root)
    (root / release.BILL).write_text("{}")
    edit(root, lambda d: d.update(by_hand(release.document(root))))
    found = verify(root)
    assert found.intact
    assert "sbom.cdx.json, by the manifest" in found.verified
    assert any("by the schema of CycloneDX" in line for line in found.unverified)


def by_hand(data: Any) -> dict[str, Any]:
    """A bill as CycloneDX has it, of what the manifest tells."""
    parts = [
        {
            "type": one.kind,
            "name": one.name,
            **({"version": one.version} if one.version else {}),
            "hashes": [{"alg": "SHA-256", "content": one.sha256}] if one.sha256 else [],
            "properties": [{"name": bill.NOTED, "value": one.noted}] if one.noted else [],
        }
        for one in bill.parts(data)
    ]
    return {"components": parts, "metadata": {"component": {"version": data["digest"]}}}
