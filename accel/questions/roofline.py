"""accel inspect --roofline: what an ONNX file costs at least on a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accel import roofline, target
from accel.measure import ceiling, child, machine
from accel.measure.ceiling import Ceilings
from accel.roofline import Floor, Peak
from accel.scratch import scratch
from accel.values import Target


@dataclass(frozen=True)
class Roofline:
    """The floors of every node and of the whole, the peak of memory, and the rates behind them."""

    path: Path
    target: str
    sizes: Mapping[str, int]  # of the open axes; 1 where none was given
    rates: Mapping[str, float]
    source: str  # where the rates come from
    floor: Floor
    peak: Peak
    memory_bytes: int | None  # that the target has


def ask(path: Path, name: str, sizes: Mapping[str, int]) -> Roofline:
    """The roofline of an .onnx on the target of that name or in that .toml.

    Raises BadModel for a file that cannot be read, UsageError for an unknown target or axis and a
    size below 1, CandidateBroken where what measures this machine's rates crashes or hangs."""
    device = target.load(name)
    opened = roofline.opened(path)
    every = {**dict.fromkeys(roofline.axes(opened.ports), 1), **sizes}
    work = roofline.work(opened, every)
    found = _measured(device) if ceiling.wanted(device) else None
    rates = device.peaks if found is None else found.peaks(work.least_bytes)
    return Roofline(
        path=path,
        target=device.name,
        sizes=every,
        rates=rates,
        source=ceiling.GIVEN if found is None else ceiling.MEASURED,
        floor=roofline.floor(work, rates),
        peak=roofline.peak(opened, every),
        memory_bytes=device.memory_bytes,
    )


def _measured(device: Target) -> Ceilings:
    words = {"threads": device.threads or machine.cores()}
    with scratch() as folder:
        log = folder / "ceiling.log"
        return child.call(ceiling.VERB, words, Ceilings, log=log, timeout_s=ceiling.LIMIT_S)
