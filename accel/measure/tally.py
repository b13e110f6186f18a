"""What one arm has gathered during a comparison, and the Measurement it becomes."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accel import disk
from accel.measure import machine
from accel.measure.worker import Block
from accel.values import Measurement, Request


@dataclass
class Tally:
    """What one arm has gathered so far."""

    columns: dict[str, list[float]] = field(
        default_factory=lambda: {"request": [], "epoch": [], "round": [], "seconds": []}
    )
    load_s: list[float] = field(default_factory=list)
    cold_s: list[float] = field(default_factory=list)
    foreign: list[float] = field(default_factory=list)
    disturbed: int = 0
    retaken: int = 0
    peak_bytes: int = 0
    dead: str = ""

    def add(self, block: Block, epoch: int, number: int) -> None:
        """Append a block's samples."""
        count, indexes = len(block.durations_ns), block.indexes
        self.columns["seconds"] += [ns * 1e-9 for ns in block.durations_ns]
        self.columns["request"] += [indexes[k % len(indexes)] for k in range(count)]
        self.columns["epoch"] += [epoch] * count
        self.columns["round"] += [number] * count

    def join(self, later: Tally) -> None:
        """Take in what another epoch gathered."""
        for name, values in later.columns.items():
            self.columns[name] += values
        self.load_s += later.load_s
        self.cold_s += later.cold_s
        self.foreign += later.foreign
        self.disturbed += later.disturbed
        self.retaken += later.retaken
        self.peak_bytes = max(self.peak_bytes, later.peak_bytes)
        self.dead = later.dead


def measurement(
    arm: str, path: Path, tally: Tally, warmup_calls: int, requests: Sequence[Request]
) -> Measurement:
    """Write the samples to `path` and sum up the rest."""
    _save(path, tally)
    return Measurement(
        arm=arm,
        samples=path,
        groups=tuple(r.group for r in requests),
        weights=tuple(r.weight for r in requests),
        load_s=statistics.median(tally.load_s),
        cold_s=statistics.median(tally.cold_s),
        peak_memory_bytes=tally.peak_bytes,
        warmup_calls=warmup_calls,
        retaken_blocks=tally.retaken,
        machine={
            **machine.fingerprint(),
            "disturbed_share": tally.disturbed / len(tally.foreign),
            "foreign_cores": statistics.median(tally.foreign),
        },
    )


def _save(path: Path, tally: Tally) -> None:
    import numpy as np

    whole = {k: np.asarray(v, np.int64) for k, v in tally.columns.items() if k != "seconds"}
    seconds = np.asarray(tally.columns["seconds"], np.float64)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, seconds=seconds, **whole)
    disk.write(path, buffer.getvalue())  # whole or not at all: an interrupt leaves the last epoch's
