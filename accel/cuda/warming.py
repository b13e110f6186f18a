"""Machine code for many kernels at once: compiled side by side, left on disk for who loads it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from accel.cuda import loading
from accel.errors import AccelError
from accel.values import Options

PROCESSES = 8  # at most: each takes a second to start and some 200 MB

Key = tuple[str, str, Options]  # kernel, dtype, baked constants


def warm(keys: Iterable[Key], compute_capability: str) -> int:
    """Compile what is not on disk yet; how many there are, each counted once.

    One that does not compile is left to whoever loads it, who gets the error."""
    if os.environ.get("ACCEL_CUBINS") == "":
        return 0  # nothing is kept on disk
    unique = {(k, d, loading.frozen(baked)): (k, d, dict(baked)) for k, d, baked in keys}
    wanted = [key for key in unique.values() if not loading.kept(*key, compute_capability)]
    if wanted:
        processes = min(PROCESSES, len(wanted), os.cpu_count() or 1)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context) as pool:
            list(pool.map(_compile, wanted, [compute_capability] * len(wanted)))
    return len(unique)


def _compile(key: Key, compute_capability: str) -> None:
    with contextlib.suppress(AccelError):
        loading.machine_code(*key, compute_capability)
