"""How many times shorter one arm's tail is than another's, with an interval. Pure functions.

A quantile far out has too few calls in a round to be paired round by round, as medians are (`stats.ratio`):
it is taken of all calls, again and again of other draws of the rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from accel import stats
from accel.intervals import RESAMPLES, SEED
from accel.stats import Ratio
from accel.values import Measurement

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Group(NamedTuple):
    """A request group's calls in the rounds that both arms ran, ascending by time."""

    weight: float
    q: float
    seconds: NDArray[Any]  # [N]
    cells: NDArray[Any]  # [N], the number of each call's round


def ratio(
    baseline: Measurement, candidate: Measurement, compared: Sequence[Measurement] = ()
) -> Ratio:
    """Of `stats.tail_seconds`, over one quantile for both and all that they are `compared` with.

    Epochs, then rounds within them, are drawn, the same for both arms.
    Raises ValueError when the arms share no round."""
    import numpy as np

    arms = (baseline, candidate)
    data = [stats.columns(m) for m in arms]
    shared = sorted(_rounds(data[0]) & _rounds(data[1]))
    if not shared:
        told = " and ".join(m.arm for m in arms)
        raise ValueError(f"{told} share no round: they were not measured together")
    quantiles = stats.tail_quantiles((*arms, *compared))
    one, two = (_groups(m, d, shared, quantiles) for m, d in zip(arms, data, strict=True))
    epochs = np.asarray([epoch for epoch, _ in shared])
    point, *draws = (
        math.log(_tail(one, times) / _tail(two, times))
        for times in (np.ones(len(shared), np.int64), *_drawn(epochs))
    )
    apart = len(set(epochs.tolist()))
    return stats.interval(point, draws, apart if apart > 1 else len(shared))


def tie(a: Measurement, b: Measurement, compared: Sequence[Measurement] = ()) -> bool:
    """Whether the difference between two tails is inside the noise of their measurement."""
    found = ratio(a, b, compared)
    return found.low <= 1.0 <= found.high


def _rounds(data: dict[str, Any]) -> set[tuple[int, int]]:
    return set(zip(data["epoch"].tolist(), data["round"].tolist(), strict=True))


def _groups(
    m: Measurement, data: dict[str, Any], shared: list[tuple[int, int]], quantiles: dict[str, float]
) -> list[_Group]:
    import numpy as np

    number = {cell: i for i, cell in enumerate(shared)}
    pairs = zip(data["epoch"].tolist(), data["round"].tolist(), strict=True)
    cells = np.asarray([number.get(pair, -1) for pair in pairs])
    found = []
    for name, q in quantiles.items():
        own = np.flatnonzero(stats.in_group(m, data["request"], name) & (cells >= 0))
        own = own[np.argsort(data["seconds"][own], kind="stable")]
        found.append(_Group(stats.group_weight(m, name), q, data["seconds"][own], cells[own]))
    return found


def _drawn(epochs: NDArray[Any]) -> NDArray[Any]:
    """[RESAMPLES, rounds] how often each round is drawn, of these epochs [rounds]."""
    import numpy as np

    draw = np.random.default_rng(SEED)
    rounds = [np.flatnonzero(epochs == epoch) for epoch in np.unique(epochs)]
    found = np.zeros((RESAMPLES, len(epochs)), np.int64)
    for times in found:
        for i in draw.integers(len(rounds), size=len(rounds)):
            np.add.at(times, draw.choice(rounds[i], len(rounds[i])), 1)
    return found


def _tail(groups: list[_Group], times: NDArray[Any]) -> float:
    """Seconds, where each round counts so many times: the least that q of the calls do not exceed."""
    import numpy as np

    total = 0.0
    for group in groups:
        below = np.cumsum(times[group.cells])
        total += group.weight * float(group.seconds[np.searchsorted(below, group.q * below[-1])])
    return total
