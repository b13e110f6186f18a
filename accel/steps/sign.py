"""accel sign: vouch for every file of a release, with a private key in a file; no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accel import amending, bill, disk, release, signature
from accel.steps import sbom as sbom_step


@dataclass(frozen=True)
class Signed:
    """A release and whose key signed it."""

    path: Path
    file: Path
    key: str  # sha256 of the public key, in PEM


def sign(
    path: str | Path, key: str | Path, *, password: str | None = None, sbom: bool = False
) -> Signed:
    """Write model.sig into the release, in place of an earlier one; with `sbom`, a bill of materials
    first. The release's digest stays.

    Raises MissingExtra without the library, UsageError for what is no private key, CandidateBroken
    where a file differs from what was packed: that is not to be vouched for."""
    root = Path(path).absolute()
    data = release.document(root)
    with amending.amending(root):
        release.require_intact(root, (release.SIGNATURE, *([release.BILL] if sbom else [])))
        signer = signature.signer(Path(key), password)
        if sbom:
            sbom_step.add(root, bill.text(data))
        made = signature.make(root, signer)
        disk.write(root / release.SIGNATURE, made, amending.drafts(root))
    return Signed(root, root / release.SIGNATURE, signature.hint(root))
