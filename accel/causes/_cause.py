"""What a file of this folder finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """Why a part is wrong, and what mends it."""

    kind: str
    message: str  # with the numbers that were seen
    mend: str  # the command, or what to change
    sure: float
