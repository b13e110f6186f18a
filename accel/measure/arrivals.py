"""When queries arrive, and which request each is: drawn from a seed, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from accel.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 5_000_000  # arrivals of one run: 120 MB of times


def poisson_ns(qps: float, seconds: float, seed: int, least: int = 0) -> NDArray[Any]:
    """Arrival times [Q], int64 ns from the run's start: gaps are exponential of mean 1/qps.

    They fill `seconds`, and more until `least` have come. Raises UsageError beyond MOST of them."""
    import numpy as np

    require(qps, seconds)
    expected = max(qps * seconds, float(least))
    draw = np.random.default_rng(seed)
    size = int(expected + 10 * expected**0.5 + 10)  # ten standard deviations above the mean
    times = np.cumsum(draw.exponential(1e9 / qps, size))
    count = max(int(np.searchsorted(times, seconds * 1e9)), least, 1)
    return times[:count].astype(np.int64)


def require(qps: float, seconds: float) -> None:
    """Raise UsageError unless so many arrivals can be drawn."""
    if not 0 < qps * seconds <= MOST:
        raise UsageError(
            f"{qps:g} queries a second for {seconds:g} s are {qps * seconds:g}; "
            f"above 0 and at most {MOST} are allowed. Choose other --qps or --seconds."
        )


def picks(weights: Sequence[float], queries: int, samples: int, seed: int) -> NDArray[Any]:
    """Which request each sample of each query is: int64 [queries, samples], drawn by weight."""
    import numpy as np

    share = np.asarray(weights, np.float64)
    draw = np.random.default_rng([seed, 1])  # a stream apart from the arrivals'
    found: NDArray[Any] = draw.choice(len(share), size=(queries, samples), p=share / share.sum())
    return found
