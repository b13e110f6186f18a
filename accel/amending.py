"""A release that gets a file after it was packed: whole, one writer at a time, no half of it inside.

A file that is not finished would be one that no manifest tells of, and who loads the release in that
moment would be refused. So it lies beside the folder, where that can be written, on the same disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accel import disk
from accel.release import BILL, MANIFEST, SIGNATURE
from accel.replacing import alone

NAMES = "|".join(map(re.escape, (MANIFEST, BILL, SIGNATURE)))
HALF = re.compile(rf"\.({NAMES})\.[0-9a-f]{{8}}")  # disk.writing's names


@contextmanager
def amending(root: Path) -> Iterator[None]:
    """Hold a release; what a killed one left in it is cleared."""
    with disk.guarded(root), alone(root):
        for left in root.glob(".*"):
            if HALF.fullmatch(left.name):
                left.unlink()
        yield


def drafts(root: Path) -> Path:
    """Where what is not finished may lie."""
    beside = root.parent
    near = os.access(beside, os.W_OK) and root.stat().st_dev == beside.stat().st_dev
    return beside if near else root
