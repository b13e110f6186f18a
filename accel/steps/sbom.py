"""accel sbom: a release's bill of materials, made from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel import amending, bill, disk, release, store
from accel.errors import UsageError


def sbom(path: str | Path, out: str | Path | None = None) -> Path:
    """Write the bill into the release, as sbom.cdx.json, or to `out`; where it was written.

    The release's digest stays: the bill is told beside it. Raises MissingExtra without the library,
    CandidateBroken where a file differs from what was packed, UsageError for a signed release
    without `out`, whose signature would break, and for an `out` inside of it or of another one."""
    root = Path(path).absolute()
    data = release.document(root)
    if out is not None:
        release.require_intact(root, (release.BILL,))
        place = Path(out).absolute()
        if place.resolve().is_relative_to(root.resolve()):
            raise UsageError(
                f"{place} is in the release. Leave --out away, or name a file elsewhere."
            )
        release.outside(place, "--out")
        with disk.guarded(place, "--out"):
            disk.write(place, bill.text(data))
        return place
    with amending.amending(root):
        return _added(root, data)


def _added(root: Path, data: Mapping[str, Any]) -> Path:
    release.require_intact(root, (release.BILL,))
    if (root / release.SIGNATURE).exists():
        raise UsageError(
            f"{root} is signed, and a bill of materials in it would break the signature. Write it "
            f"elsewhere, with --out; or sign again with one: accel sign {root} --key KEY --sbom"
        )
    add(root, bill.text(data))
    return root / release.BILL


def add(root: Path, text: str) -> None:
    """Put a bill into the release, and its digest into the manifest.

    Two files cannot be written at once. A manifest that tells of the bill which is to go would belie
    the new one; of a bill that it does not tell of, whoever loads the release takes no notice."""
    data = release.document(root)
    if release.attached(data):
        release.rewrite(root, {**data, "attached": {}}, amending.drafts(root))
    disk.write(root / release.BILL, text, amending.drafts(root))
    told = {release.BILL: store.digest_file(root / release.BILL)}
    release.rewrite(root, {**data, "attached": told}, amending.drafts(root))
