"""A temporary folder whose logs outlive a failure, since the failure's message names them."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from accel.errors import AccelError


@contextlib.contextmanager
def scratch(failed: Callable[[], bool] = lambda: False, prefix: str = "accel-") -> Iterator[Path]:
    """It goes when the block ends. Where that is an AccelError, or `failed` says of what was found
    that it tells of one, what processes printed stays in it."""
    folder, kept = Path(tempfile.mkdtemp(prefix=prefix)), False
    try:
        yield folder
        kept = failed()
    except AccelError:
        kept = True
        raise
    finally:
        if kept:
            _only_logs(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _only_logs(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):  # what lies in a folder comes before it
        with contextlib.suppress(OSError):  # a folder with a log in it
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif path.suffix != ".log" or not path.stat().st_size:
                path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
