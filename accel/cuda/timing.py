"""A GPU's clock: CUDA events around interleaved arms, a cold L2 where asked, launches apart.

Needs torch with CUDA. All times are seconds. Events are read after the last repetition, so that the
host runs ahead of the GPU, and what it costs to start an arm hides behind the work before.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

WARM_UP = 3  # rounds that are not kept
FLUSH_BYTES = 256 * 2**20  # several times the L2 of any GPU so far (B200: 126 MB)
COPY_BYTES = 2**30
CALLS = 500  # between two readings of the host's clock: fewer than a stream queues (1,024)
GRAPH_LAUNCHES = 1000

DEVICE = "cuda"

Arm = Callable[[], Any]


@dataclass(frozen=True)
class Timed:
    """One arm's repetitions: every sample, and what a reader looks at first."""

    samples_s: tuple[float, ...]
    host_s: float  # median time to start it: below `hidden_s` it was not waited for
    hidden_s: float  # how long the GPU was busy with the work before

    @property
    def median_s(self) -> float:
        """The middle repetition."""
        return statistics.median(self.samples_s)

    @property
    def spread(self) -> float:
        """(90th - 10th percentile) / median."""
        tenths = statistics.quantiles(self.samples_s, n=10, method="inclusive")
        return (tenths[-1] - tenths[0]) / self.median_s

    @property
    def launch_bound(self) -> bool:
        """Did the GPU wait for the host, so that the time is the host's?"""
        return self.host_s > max(self.hidden_s, self.median_s)


def interleaved(arms: Mapping[str, Arm], rounds: int, cold: bool) -> dict[str, Timed]:
    """Each round runs every arm once, in an order drawn anew.

    `cold`: before each repetition 256 MB are overwritten, which empties the L2 and keeps the GPU
    busy while the host starts the arm."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=DEVICE) if cold else None
    draw, names = random.Random(0), list(arms)
    events: dict[str, list[Any]] = {name: [] for name in names}
    host: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(WARM_UP + rounds):
        draw.shuffle(names)
        for name in names:
            if flush is not None:
                flush.zero_()
            pair = _event(), _event()
            began = time.perf_counter()
            pair[0].record()
            arms[name]()
            pair[1].record()
            took = time.perf_counter() - began
            if turn >= WARM_UP:
                events[name].append(pair)
                host[name].append(took)
    torch.cuda.synchronize()
    hidden = 0.0 if flush is None else _flush_s(flush)
    return {
        name: Timed(
            tuple(first.elapsed_time(last) / 1e3 for first, last in events[name]),
            statistics.median(host[name]),
            hidden,
        )
        for name in arms
    }


def copy_bytes_per_s(rounds: int = 20) -> float:
    """Device-to-device copy of 1 GiB: bytes read and bytes written, by the median repetition."""
    source = torch.randint(0, 256, (COPY_BYTES,), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    found = interleaved({"copy": lambda: target.copy_(source)}, rounds, cold=False)["copy"]
    return 2 * COPY_BYTES / found.median_s


def host_launch_s(arm: Arm, rounds: int = 20) -> float:
    """What one start costs the host, nothing waited for: the median over runs of 500 starts."""
    found = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(CALLS):
            arm()
        found.append((time.perf_counter() - began) / CALLS)
    return statistics.median(found)


def graph_launch_s(arm: Arm, rounds: int = 20) -> float:
    """One launch within a CUDA graph of 1,000 of them, its kernel included: replay over number."""
    arm()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPH_LAUNCHES):
            arm()
    found = interleaved({"graph": graph.replay}, rounds, cold=False)["graph"]
    return found.median_s / GRAPH_LAUNCHES


def worst(got: Sequence[Any], want: Sequence[Any]) -> float:
    """The largest |got - want| / (1 + |want|) of float tensors, the share that differs of others.

    Infinite where NaN and infinity do not stand alike. On the device: the tensors may be large."""
    found = 0.0
    for mine, other in zip(got, want, strict=True):
        if not mine.dtype.is_floating_point:
            found = max(found, float((mine != other).float().mean()))
            continue
        a, b = mine.float(), other.float()
        finite = torch.isfinite(b)
        if not torch.equal(torch.isfinite(a), finite):
            return float("inf")
        error = torch.where(finite, (a - b).abs() / (1 + b.abs()), torch.zeros_like(b))
        found = max(found, float(error.max()) if error.numel() else 0.0)
    return found


def _flush_s(flush: Any) -> float:
    first, last = _event(), _event()
    first.record()
    flush.zero_()
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last)) / 1e3


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)
