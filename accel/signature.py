"""A release's signature: model.sig, as OpenSSF's model signing defines it, by a key in a file.

It covers every file but itself, accel.json included, and needs no network. Only who holds the public
key can tell that a release is what the holder of the private key signed.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accel import store
from accel.errors import EnvironmentProblem, MissingExtra, UsageError
from accel.release import MANIFEST, SIGNATURE

PRIVATE = (
    "a private key of an elliptic curve in PEM. Make one: "
    "openssl ecparam -name prime256v1 -genkey -noout -out private.pem"
)
PUBLIC = (
    "a public key of an elliptic curve in PEM. Make it of the private one: "
    "openssl ec -in private.pem -pubout -out public.pem"
)
MOST_BYTES = 16_000_000  # a line of some 150 bytes a file: far beyond any release


def signer(key: Path, password: str | None) -> Any:
    """What signs with a private key.

    Raises MissingExtra without the library, UsageError for what is no private key."""
    library, hashing = _libraries("signing")
    with _key(key, PRIVATE):
        # bytes, whatever its annotation says: the library hands it on as it is
        secret = None if password is None else password.encode()
        made = library.Config().use_elliptic_key_signer(private_key=key, password=secret)
    everything = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    return made.set_hashing_config(everything)


def make(root: Path, signer: Any) -> bytes:
    """The signature's bytes, of all that lies in the folder now."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, SIGNATURE)
        try:
            signer.sign(root, out)
        except ValueError as error:  # a link, or a pipe, that came this moment
            raise EnvironmentProblem(f"{root} cannot be signed: {error}") from None
        return out.read_bytes()


def wrong(root: Path, key: Path) -> str:
    """What speaks against the signature, by a public key; "" when it holds for every file.

    Raises as `signer` does, for a public key."""
    library, _ = _libraries("verifying")
    with _key(key, PUBLIC):
        verifier = library.Config().use_elliptic_key_verifier(public_key=key)
    path = root / SIGNATURE
    if path.is_symlink() or not path.is_file():
        return "missing: the release is not signed, or its signature was taken away"
    if path.stat().st_size > MOST_BYTES:
        return f"no signature: {path.stat().st_size} bytes, {MOST_BYTES} are the most"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints; stdout is for our one document
            verifier.verify(root, path)
        covered = _signed(path)
    except Exception as error:  # the library's, cryptography's, pydantic's and json's own
        return _said(error, root)
    return "" if MANIFEST in covered else f"does not cover {MANIFEST}, and so says nothing of it"


def hint(root: Path) -> str:
    """sha256 of the public key that a signature names, unchecked; "" where it names none."""
    try:
        found = json.loads((root / SIGNATURE).read_text(encoding="utf-8"))
        return str(found["verificationMaterial"]["publicKey"]["hint"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _signed(path: Path) -> dict[str, str]:
    """Name -> digest of what a signature is of."""
    envelope = json.loads(path.read_text(encoding="utf-8"))["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    return {one["name"]: one["digest"] for one in statement["predicate"]["resources"]}


def _said(error: Exception, root: Path) -> str:
    """An error of the verifier in words."""
    text = " ".join(str(error).split())
    if "Key mismatch" in text:
        return "made with another key"
    if text.startswith("Signature mismatch: "):  # after the signature itself was seen to hold
        return f"does not hold: {_mismatch(root)}"
    if type(error).__name__ == "InvalidSignature":
        return "does not hold: it was changed, or made with another key"
    return f"cannot be checked: {type(error).__name__} {text[:200]}"


def _mismatch(root: Path) -> str:
    signed = _signed(root / SIGNATURE)
    found = store.digest_files(root)
    found.pop(SIGNATURE)
    told = {
        "changed": [n for n in signed if n in found and found[n] != signed[n]],
        "missing": [n for n in signed if n not in found],
        "added": [n for n in found if n not in signed],
    }
    return "; ".join(f"{what}: {', '.join(names[:5])}" for what, names in told.items() if names)


def _libraries(part: str) -> tuple[Any, Any]:
    import importlib

    try:
        found = [importlib.import_module(f"model_signing.{name}") for name in (part, "hashing")]
    except ImportError as error:
        raise MissingExtra(
            f"Signatures need model-signing and what it imports; {error.name} is not installed. "
            f"Run: pip install 'accel-inference[sign]'"
        ) from None
    return found[0], found[1]


@contextlib.contextmanager
def _key(path: Path, wanted: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}). --key names {wanted}"
        ) from None
    except Exception as error:  # cryptography's; AttributeError of keys that have no curve
        if "not encrypted" in str(error):
            raise UsageError(
                f"{path} is not encrypted, and a password was given: unset ACCEL_KEY_PASSWORD."
            ) from None
        if "assword" in str(error) or "decrypt" in str(error):
            raise UsageError(
                f"{path} is encrypted, and the password does not open it: set ACCEL_KEY_PASSWORD."
            ) from None
        raise UsageError(f"{path} is not {wanted}") from None
