"""What an arm gave in one epoch, and the statistics that are compared.

A statistic is computed alike on both arms, so that exchanging the arms changes its sign and nothing
else: under "no difference" the sign is a fair coin, whatever the noise.
"""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import disk, store
from accel.evidence import BASELINE
from accel.measure.worker import Block
from accel.values import Request

if TYPE_CHECKING:
    from numpy.typing import NDArray

P99_CALLS = 300  # of a group, an arm and an epoch: 3 calls beyond the quantile


@dataclass
class Taken:
    """One arm's epoch: a row a call, and what is read once."""

    request: list[int] = field(default_factory=list)
    round: list[int] = field(default_factory=list)
    ns: list[int] = field(default_factory=list)
    foreign: list[float] = field(default_factory=list)  # a block: cores that others kept busy
    load_s: float = math.nan
    cold_s: float = math.nan  # the first call
    peak_bytes: int = 0

    def add(self, number: int, block: Block, foreign: float) -> None:
        """Append a block's calls."""
        count, indexes = len(block.durations_ns), block.indexes
        self.ns += block.durations_ns
        self.request += [indexes[k % len(indexes)] for k in range(count)]
        self.round += [number] * count
        self.foreign.append(foreign)


def groups(requests: Sequence[Request]) -> list[tuple[int, ...]]:
    """Indexes of the requests of each group: a block each."""
    names = dict.fromkeys(r.group for r in requests)
    return [tuple(i for i, r in enumerate(requests) if r.group == n) for n in names]


def told(taken: Mapping[str, Taken], requests: Sequence[Request]) -> dict[str, Any]:
    """The fields of an Epoch that follow from the samples."""
    rounds = {arm: _rounds(t, len(requests)) for arm, t in taken.items()}  # [rounds, requests]
    found = {arm: _values(t, rounds[arm], requests) for arm, t in taken.items()}
    base, base_rounds = found[BASELINE], rounds[BASELINE]
    logs = {}
    for arm in taken:
        if arm != BASELINE:
            ratios = {k: math.log(v / base[k]) for k, v in found[arm].items() if k in base}
            logs[arm] = ratios | _paired(rounds[arm], base_rounds, requests)
    weights = _weights(requests, "")
    return {
        "logs": logs,
        "values": found,
        "rounds_s": {arm: tuple(map(float, r @ weights)) for arm, r in rounds.items()},
        "calls": {arm: len(t.ns) for arm, t in taken.items()},
    }


def covariates(taken: Mapping[str, Taken]) -> dict[str, float]:
    """What is recorded beside an epoch, and filters nothing."""
    seen = [x for t in taken.values() for x in t.foreign]
    return {"foreign_cores": statistics.fmean(seen) if seen else math.nan}


def save(path: Path, taken: Mapping[str, Taken]) -> str:
    """Write every call, columns "<arm>/request", "<arm>/round", "<arm>/ns"; sha256 of the file."""
    import numpy as np

    kinds = {"request": np.int32, "round": np.int16, "ns": np.int64}
    columns = {
        f"{a}/{c}": np.asarray(getattr(t, c), k) for a, t in taken.items() for c, k in kinds.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **columns)
    disk.write(path, buffer.getvalue())
    return store.digest_file(path)


def _rounds(taken: Taken, requests: int) -> NDArray[Any]:
    """Median seconds of each request in each round, [rounds, requests]."""
    import numpy as np

    ns, number, request = (np.asarray(getattr(taken, c)) for c in ("ns", "round", "request"))
    found = np.empty((int(number.max()) + 1, requests))
    for r in range(len(found)):
        for i in range(requests):
            found[r, i] = np.median(ns[(number == r) & (request == i)])
    return found * 1e-9


def _weights(requests: Sequence[Request], group: str) -> NDArray[Any]:
    """[requests]; of one group, or of all for an empty name. They sum to what they sum to: a
    ratio does not see it."""
    import numpy as np

    return np.asarray([r.weight if group in ("", r.group) else 0.0 for r in requests])


def _shares(requests: Sequence[Request], group: str) -> NDArray[Any]:
    """[requests]; weights within one group: they sum to 1, or to 0 where it has no traffic."""
    own = _weights(requests, group)
    return own / own.sum() if own.any() else own


def _paired(arm: NDArray[Any], base: NDArray[Any], requests: Sequence[Request]) -> dict[str, float]:
    """p50: the median over rounds of the ratio within the round, weighted and of each group."""
    import numpy as np

    names = dict.fromkeys(r.group for r in requests)
    found = {}
    for key, group in (("p50", ""), *((f"p50/{n}", n) for n in names)):
        w = _weights(requests, group)
        if w.any():
            found[key] = float(np.median(np.log((arm @ w) / (base @ w))))
    return found


def _values(taken: Taken, rounds: NDArray[Any], requests: Sequence[Request]) -> dict[str, float]:
    import numpy as np

    ns, request = np.asarray(taken.ns), np.asarray(taken.request)
    means = np.asarray([ns[request == i].mean() * 1e-9 for i in range(len(requests))])
    weights = _weights(requests, "")
    found = {
        "p50": float(np.median(rounds @ weights)),
        "throughput": float(means @ weights),  # seconds a request: its inverse is the rate
        "cold_start": taken.load_s + taken.cold_s,
        "peak_memory": float(taken.peak_bytes),
    }
    names = list(dict.fromkeys(r.group for r in requests))
    tails = {n: _tail(ns, request, requests, n) for n in names}
    for n in names:
        own = _shares(requests, n)
        found |= {f"p50/{n}": float(np.median(rounds @ own)), f"throughput/{n}": float(means @ own)}
    found |= {f"p99/{n}": tail for n, tail in tails.items() if tail is not None}
    carried = [(t, _weights(requests, n).sum()) for n, t in tails.items() if t is not None]
    if len(carried) == len(names):
        found["p99"] = float(sum(t * w for t, w in carried))
    return {k: v for k, v in found.items() if v > 0}


def _tail(
    ns: NDArray[Any], request: NDArray[Any], requests: Sequence[Request], group: str
) -> float | None:
    import numpy as np

    chosen = ns[np.isin(request, [i for i, r in enumerate(requests) if r.group == group])]
    return float(np.quantile(chosen, 0.99)) * 1e-9 if len(chosen) >= P99_CALLS else None
