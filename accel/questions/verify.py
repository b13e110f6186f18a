"""accel verify: is a release what was packed, who says so, and what can nobody tell?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import bill, catalog, release, signature
from accel.errors import MissingExtra, UsageError


@dataclass(frozen=True)
class Verified:
    """Intact when nothing differs. What is unverified is not known to be wrong."""

    path: Path
    intact: bool
    differences: tuple[str, ...]
    verified: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()


def verify(path: str | Path, key: str | Path | None = None) -> Verified:
    """Recompute every digest; with the signer's public key, hold the signature against all files.

    Raises UsageError when the folder is not a release, or `key` no key; MissingExtra when a
    signature is to be checked and its library is not installed."""
    root = Path(path).absolute()
    data = release.document(root)
    wrong, good = _digests(root, data)
    for check in (_bill(root, data), *([_signature(root, Path(key))] if key is not None else [])):
        wrong += check[0]
        good += check[1]
    rest = _rest(root, shlex.quote(str(path)), data, key, wrong)
    return Verified(Path(path), not wrong, tuple(wrong), tuple(good), rest)


def _digests(root: Path, data: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    wrong = list(release.differences(root))
    count = len(release.files(data)) + len(release.attached(data))
    return wrong, [] if wrong else [f"{count} files and the manifest, by sha256"]


def _signature(root: Path, key: Path) -> tuple[list[str], list[str]]:
    if why := signature.wrong(root, key):
        return [f"{release.SIGNATURE}: {why}"], []
    return [], [f"the signature of all files, by the key {signature.hint(root)[:12]}"]


def _bill(root: Path, data: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """A bill of materials against the manifest and, where its library is here, its own schema."""
    path = root / release.BILL
    if not _is_there(path):
        return [], []
    try:
        lines = bill.wrong(root, data)
    except UsageError as error:  # of a manifest that someone broke
        lines = (str(error),)
    if lines:
        return list(lines), []
    try:
        why = bill.invalid(path.read_text(encoding="utf-8"))
    except MissingExtra:
        return [], [f"{release.BILL}, by the manifest"]
    if why:
        return [f"{release.BILL}: not CycloneDX: {why}"], []
    return [], [f"{release.BILL}, by the manifest and by the schema of CycloneDX"]


def _is_there(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _rest(
    root: Path, word: str, data: Mapping[str, Any], key: str | Path | None, wrong: list[str]
) -> tuple[str, ...]:
    """What could not be verified. A manifest that someone broke need not tell it.

    `word`: the folder in a command, as it was given."""
    try:
        with release.complete(root):
            told = _unsigned(root, word, key), _unread(root), _code(data), _unrecorded(data)
            return tuple(line for lines in (*told, _unseen(word, data)) for line in lines)
    except UsageError:
        if not wrong:
            raise
        return ()


def _unsigned(root: Path, word: str, key: str | Path | None) -> Iterator[str]:
    if not _is_there(root / release.SIGNATURE):
        yield f"who made it: no signature. To sign: accel sign {word} --key private.pem"
    elif key is None:
        yield (
            f"who made it: {release.SIGNATURE} was not held against a key. With the signer's: "
            f"accel verify {word} --key public.pem"
        )


def _unread(root: Path) -> Iterator[str]:
    if _is_there(root / release.BILL):
        try:
            bill.require()
        except MissingExtra as error:
            yield f"{release.BILL} by the schema of CycloneDX: {error}"


def _code(data: Mapping[str, Any]) -> Iterator[str]:
    """Digests tell that a plan is the one that was packed, and nothing of what it does."""
    engine, plan = str(data["winner"]["engine"]), data["winner"].get("plan")
    if plan is None or engine not in catalog.names("engines"):
        return
    native = catalog.constant("engines", engine, "NATIVE")
    if native is True or (native and native.items() <= plan["options"].items()):
        yield (
            f"what its code does: the plan of {engine} holds native code, which runs where the release "
            "is loaded, timed or gated. Only a signature tells whose it is"
        )


def _unrecorded(data: Mapping[str, Any]) -> Iterator[str]:
    """What the manifest does not record, and what it records of things that are elsewhere."""
    if made := data.get("provenance"):
        bare = [name for name, one in made["distributions"].items() if not one["digest"]]
        if bare:
            yield f"the files of {', '.join(bare)}: known by version only, no digest is recorded"
    else:
        yield (
            "what made it: an older accel, which recorded the versions of "
            f"{sum(map(bool, data['versions'].values()))} libraries, and no digests of them"
        )
    digests = data["facts"].get("digests", {})
    if kept := [name for name, digest in digests.items() if digest]:
        yield f"{', '.join(kept)}: recorded by digest, and not in the release"
    else:
        yield "the workload, its weights and its data: no digest of them was recorded"


def _unseen(word: str, data: Mapping[str, Any]) -> Iterator[str]:
    """What nobody measured yet, and what was measured then and not now."""
    waiting = sum(one["status"] == "unmeasured" for one in data["table"])
    proof = data["certificate"]
    if proof is None:
        yield (
            f"speed and accuracy: {waiting} candidates are unmeasured and none is chosen. On the "
            f"device: accel finish {word}"
        )
        return
    if waiting:
        yield f"{waiting} of {len(data['table'])} candidates: unmeasured"
    if proof["grade"] != "certified":
        yield _undecided(proof)
    yield (
        "speed and accuracy: as recorded, nothing was run. To see again: accel bench RELEASE; "
        "accel evaluate RELEASE/model.onnx --workload FILE"
    )


def _undecided(proof: Mapping[str, Any]) -> str:
    """Of a drop that is not certified. JSON has no infinity: what is not bounded is null there."""
    budget, bound = proof["budget"], proof["bound"]
    inside = "no budget" if budget is None else f"the budget of {budget:.3g} {proof['unit']}"
    most = "with no bound" if bound is None else f"at most {bound:.3g}"
    return f"a drop inside {inside}: it is {proof['grade']}, {most} at 95 %"
