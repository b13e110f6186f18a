"""What timings can carry: quantiles, weighted sums, and ratios with an interval. Pure functions.

Random draws are seeded, so the same samples always give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.intervals import LEVEL, RESAMPLES, SEED
from accel.values import Measurement

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAIL_SAMPLES = 10  # n(1-q) from which the binomial count beyond a quantile is near normal, so that
# the quantile has an interval of order statistics: Le Boudec, Performance Evaluation (2010), 2.2

TAILS = (0.99, 0.9)  # the second where a sample does not carry the first


class Ratio(NamedTuple):
    """Baseline time over candidate time: above 1 is faster. `low`, `high`: 95 % interval."""

    point: float
    low: float
    high: float


def quantile_if_carried(samples: Any, q: float) -> float | None:
    """The q-quantile of samples [N], or None where fewer than 10 of them lie beyond it."""
    import numpy as np

    values = np.asarray(samples, np.float64)
    if len(values) * (1 - q) < TAIL_SAMPLES - 1e-9:
        return None
    return float(np.quantile(values, q))


def objective(measurement: Measurement) -> float:
    """Weighted sum of per-request medians, seconds."""
    medians = _request_medians(measurement)
    return float(sum(w * m for w, m in zip(measurement.weights, medians, strict=True)))


def floor_seconds(measurement: Measurement) -> float:
    """Weighted sum of per-request minima, seconds: of a few calls, what others disturbed least."""
    return _weighted(measurement, lambda seconds: float(seconds.min()))


def mean_seconds(measurement: Measurement) -> float:
    """Weighted sum of per-request means (s): its inverse is the closed-loop throughput."""
    return _weighted(measurement, lambda seconds: float(seconds.mean()))


def tail_seconds(measurement: Measurement, compared: Sequence[Measurement] = ()) -> float:
    """Weighted sum over request groups of p99 (s), p90 where it or one of the `compared` carries none:
    a quicker arm makes more calls, and its p99 is not to be ranked against a slower one's p90."""
    import numpy as np

    return sum(
        group_weight(measurement, name) * float(np.quantile(group_seconds(measurement, name), q))
        for name, q in tail_quantiles((measurement, *compared)).items()
    )


def tail_quantiles(arms: Sequence[Measurement]) -> dict[str, float]:
    """The quantile that is the tail of each request group: the highest that every arm carries."""
    high, low = TAILS
    return {
        name: low if any(group_quantile(m, name, high) is None for m in arms) else high
        for name in dict.fromkeys(arms[0].groups)
    }


def group_weight(measurement: Measurement, group: str) -> float:
    """A request group's share of the traffic."""
    pairs = zip(measurement.groups, measurement.weights, strict=True)
    return sum(weight for name, weight in pairs if name == group)


def _weighted(measurement: Measurement, statistic: Callable[[Any], float]) -> float:
    data = columns(measurement)
    return sum(
        w * statistic(data["seconds"][data["request"] == i])
        for i, w in enumerate(measurement.weights)
    )


def group_quantile(measurement: Measurement, group: str, q: float) -> float | None:
    """A quantile (s) of a request group's calls, or None where the sample does not carry it."""
    data = columns(measurement)
    return quantile_if_carried(data["seconds"][in_group(measurement, data["request"], group)], q)


def group_seconds(measurement: Measurement, group: str) -> NDArray[Any]:
    """Every call of a request group [N], seconds."""
    data = columns(measurement)
    found: NDArray[Any] = data["seconds"][in_group(measurement, data["request"], group)]
    return found


def group_medians(measurement: Measurement) -> dict[str, float]:
    """Median latency (s) of each request group, over all of its calls."""
    import numpy as np

    data = columns(measurement)
    return {
        name: float(np.median(data["seconds"][in_group(measurement, data["request"], name)]))
        for name in dict.fromkeys(measurement.groups)
    }


def ratio(baseline: Measurement, candidate: Measurement, group: str | None = None) -> Ratio:
    """How many times faster the candidate is, on one group or (None) on the weighted objective.

    Rounds are paired: both arms ran within the same round of the same epoch. The statistic is the
    mean over epochs of the median over rounds of ln(baseline / candidate). Epochs, then rounds
    within them, are resampled. A bootstrap over few epochs is too narrow; its half-widths are
    widened by sqrt(E/(E-1)) t(E-1)/z (Hesterberg, The American Statistician 69:371, 2015, on
    narrowness bias). Raises ValueError when the arms share no round."""
    logs = _paired_logs(baseline, candidate, group)
    point = _centre(logs)
    draws = _resampled_centres(logs)
    return interval(point, draws, len(logs) if len(logs) > 1 else len(logs[0]))


def interval(point: float, draws: Any, units: int) -> Ratio:
    """A ratio from its logarithm, and from those of resamples [R] of so many epochs or rounds."""
    import numpy as np

    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if units < 2:
        return Ratio(math.exp(point), 0.0, math.inf)  # one round says nothing of its own noise
    wide = widening(units)
    reach = (point - wide * max(0.0, point - low), point + wide * max(0.0, high - point))
    return Ratio(math.exp(point), math.exp(reach[0]), math.exp(reach[1]))


def tie(a: Measurement, b: Measurement, group: str | None = None) -> bool:
    """Whether the difference between two arms is inside the noise of their measurement."""
    found = ratio(a, b, group)
    return found.low <= 1.0 <= found.high


def columns(measurement: Measurement) -> dict[str, NDArray[Any]]:
    """Request, epoch, round and seconds of every call, [N] each."""
    import numpy as np

    with np.load(measurement.samples, allow_pickle=False) as found:
        # a release keeps the columns of all its arms in one file
        prefix = "" if "seconds" in found.files else f"0/{measurement.arm}/"
        return {name: found[prefix + name] for name in ("request", "epoch", "round", "seconds")}


def _request_medians(measurement: Measurement) -> list[float]:
    import numpy as np

    data = columns(measurement)
    return [
        float(np.median(data["seconds"][data["request"] == i]))
        for i in range(len(measurement.groups))
    ]


def in_group(measurement: Measurement, request: Any, group: str) -> Any:
    """Which of these requests [N] are of a group."""
    import numpy as np

    if group not in measurement.groups:
        raise ValueError(f"no request group {group!r}; there are {sorted(set(measurement.groups))}")
    return np.isin(request, [i for i, name in enumerate(measurement.groups) if name == group])


def _round_statistics(m: Measurement, group: str | None) -> dict[tuple[int, int], float]:
    """Seconds of each (epoch, round): the group's median, or the weighted sum over requests."""
    import numpy as np

    data = columns(m)
    wanted = [i for i, g in enumerate(m.groups) if group in (None, g)]
    if not wanted:
        raise ValueError(f"no request group {group!r}; there are {sorted(set(m.groups))}")
    found = {}
    for cell in sorted(set(zip(data["epoch"].tolist(), data["round"].tolist(), strict=True))):
        here = (data["epoch"] == cell[0]) & (data["round"] == cell[1])
        seconds, request = data["seconds"][here], data["request"][here]
        medians = [float(np.median(seconds[request == i])) for i in wanted]
        found[cell] = sum(m.weights[i] * x for i, x in zip(wanted, medians, strict=True))
    return found


def _paired_logs(a: Measurement, b: Measurement, group: str | None) -> list[NDArray[Any]]:
    """ln(a / b) of each round, one array [rounds] an epoch."""
    import numpy as np

    one, two = _round_statistics(a, group), _round_statistics(b, group)
    logs: dict[int, list[float]] = {}
    for cell in sorted(one.keys() & two.keys()):
        logs.setdefault(cell[0], []).append(math.log(one[cell] / two[cell]))
    if not logs:
        raise ValueError(f"{a.arm} and {b.arm} share no round: they were not measured together")
    return [np.asarray(x) for x in logs.values()]


def _centre(logs: list[NDArray[Any]]) -> float:
    import numpy as np

    return float(np.mean([np.median(x) for x in logs]))


def _resampled_centres(logs: list[NDArray[Any]]) -> NDArray[Any]:
    """[RESAMPLES] centres of epochs drawn with replacement, rounds drawn within each."""
    import numpy as np

    draw = np.random.default_rng(SEED)
    within = np.stack(  # [E, RESAMPLES, E]: a fresh median for every slot an epoch may fill
        [
            np.median(x[draw.integers(len(x), size=(RESAMPLES, len(logs), len(x)))], axis=-1)
            for x in logs
        ]
    )
    chosen = draw.integers(len(logs), size=(RESAMPLES, len(logs)))
    rows, slots = np.arange(RESAMPLES)[:, None], np.arange(len(logs))[None, :]
    centres: NDArray[Any] = within[chosen, rows, slots].mean(axis=1)
    return centres


def widening(n: int) -> float:
    """By how much a percentile bootstrap's interval over n units is too narrow: by what it divides, and by
    Student's t."""
    from scipy.stats import norm, t

    tail = (1 + LEVEL) / 2
    return float(math.sqrt(n / (n - 1)) * t.ppf(tail, n - 1) / norm.ppf(tail))
