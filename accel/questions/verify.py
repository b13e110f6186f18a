"""accel verify: is a release what was packed?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accel import release


@dataclass(frozen=True)
class Verified:
    """Intact when nothing differs."""

    path: Path
    intact: bool
    differences: tuple[str, ...]


def verify(path: Path) -> Verified:
    """Recompute every digest. Raises UsageError when the folder is not a release."""
    found = release.differences(path)
    return Verified(path, not found, found)
