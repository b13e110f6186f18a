"""A pointer to a release: its digest and where it lies; followed only to that very release."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from accel import release
from accel.errors import AccelError, NoBaseline, UsageError
from accel.plain import shown

FETCHED = Path(".accel", "baselines")  # where releases from elsewhere are looked for, by digest
_DIGEST = re.compile(r"[0-9a-f]{64}")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Pointer:
    """A release: the digest of its manifest, and where it lies.

    `place` is a path (a relative one is taken from the baselines file), file://, or an address."""

    digest: str
    place: str


def point(place: str | Path, root: Path) -> Pointer:
    """A pointer to a release on this disk, for a baselines file in the folder `root`.

    Raises UsageError for what is no release, CandidateBroken for one that was changed, Unmeasured
    for one that was never built."""
    folder = Path(place).absolute()
    release.intact(folder)
    digest = str(release.document(folder)["digest"])
    return Pointer(digest, relative(folder, root))


def relative(path: Path, root: Path) -> str:
    """A path as the file has it: from the file's folder, unless they share nothing but "/"."""
    full = path.absolute()
    if len(Path(os.path.commonpath((full, root))).parts) < 2:
        return full.as_posix()
    return Path(os.path.relpath(full, root)).as_posix()


def follow(pointer: Pointer, root: Path, what: str) -> Path:
    """The folder of the release, whose every digest holds. `what` begins the message.

    Raises NoBaseline when it is not there, is another release, or was changed."""
    folder, at = _local(pointer, root, what), shown(pointer.place, keep="")
    try:
        digest = str(release.document(folder).get("digest"))
        changed = [d for d in release.differences(folder) if d != release.UNTOLD]
    except AccelError as error:
        raise NoBaseline(f"{what} cannot be read: {error}") from None
    if digest != pointer.digest:
        raise NoBaseline(
            f"{what} is release {pointer.digest[:12]}, but at {at} lies "
            f"{shown(digest[:12], keep='')}. Bring the right one back, or make this one the baseline with: accel bless"
        )
    if changed:
        raise NoBaseline(f"{what} at {at} is not as it was packed: {changed[0]}.")
    return folder


def _local(pointer: Pointer, root: Path, what: str) -> Path:
    place = pointer.place
    if place.startswith("file://"):
        parts = urlsplit(place)
        here = parts.netloc in ("", "localhost")  # RFC 8089: any other host is another machine
        folder = Path(unquote(parts.path) if here else place)
    elif _REMOTE.match(place):
        folder = root / FETCHED / pointer.digest[:12]
    else:
        folder = Path(os.path.normpath(root / place))
    if folder.is_dir():
        return folder
    if not _REMOTE.match(place) or place.startswith("file://"):
        raise NoBaseline(
            f"{what}, release {pointer.digest[:12]}, is not at {shown(folder, keep='')}. Bring it there "
            f"(git lfs pull, a copy), or correct its place in the baselines file."
        )
    fetch = shown(
        f"{place}, which accel does not fetch by itself. {_fetch(place, folder)}", keep=""
    )
    raise NoBaseline(f"{what} lies at {fetch}")


def _fetch(place: str, folder: Path) -> str:
    """`oras pull [flags] <name>{:<tag>|@<digest>}`, --output: the folder (pull.go of oras)."""
    if place.startswith("oci://"):
        return f"Fetch it with: oras pull --output {folder} {place.removeprefix('oci://')}"
    return f"Fetch the release into this folder: {folder}"


def check(pointer: Pointer) -> None:
    """Raise UsageError for what no release can have."""
    if not isinstance(pointer.digest, str) or not _DIGEST.fullmatch(pointer.digest):
        raise UsageError(f"digest {pointer.digest!r} is not the sha256 of a release's manifest.")
    if not isinstance(pointer.place, str) or not pointer.place.strip():
        raise UsageError(f"place {pointer.place!r} is no path and no address.")
