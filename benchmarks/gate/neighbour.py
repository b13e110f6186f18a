"""A noisy neighbour: one core's worth of work, on and off at random, until its parent is gone.

On and off each last 1 s in the mean, exponentially distributed, so that half a core is used and a
gate meets every mixture of both. It may use the same cores as what is timed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MEAN_S = 1.0
LOOK_S = 0.05  # how soon it notices that the parent is gone


@contextmanager
def running(seed: int) -> Iterator[int]:
    """One, beside the block; its process id."""
    words = [sys.executable, str(Path(__file__)), str(seed), str(os.getpid())]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def main(seed: int, parent: int) -> None:
    """Work and rest in turns."""
    draw, numbers = random.Random(seed), list(range(4096))
    while os.getppid() == parent:
        _for(draw.expovariate(1 / MEAN_S), parent, lambda: sum(numbers))
        _for(draw.expovariate(1 / MEAN_S), parent, lambda: time.sleep(LOOK_S / 2))


def _for(seconds: float, parent: int, act: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and os.getppid() == parent:
        until = time.monotonic() + min(left, LOOK_S)
        while time.monotonic() < until:
            act()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
