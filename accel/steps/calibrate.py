"""Look at calibration data, and run a graph over it once for the ranges of all its values: the verb."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from accel import arrays
from accel.errors import UsageError
from accel.protocols import Calibration
from accel.values import Feed, Finding, Model

SKETCHES = "sketches.npz"
Sizes = Mapping[str, Sequence[Collection[int]]]


def calibrate(
    model: Model,
    data: str | Path,
    out: str | Path,
    *,
    most: int | None = None,
    stop: bool = True,
    noise: Sequence[str] = (),
    timed: Sizes | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Calibration:
    """Sketches of every float value, from the feeds in the .npz `data`, in the folder `out`.

    Memory does not grow with the number of feeds. `stop`: as soon as the ranges have settled;
    `most`: at this many feeds at the latest. `timed`: input -> for each axis, the sizes that are
    timed and evaluated, which the data should cover. Raises UsageError for data that is absent, not of this model, or not fit (`audit`)."""
    from accel import sketch
    from accel.calibration import audit
    from accel.calibration.collect import collect

    data, out = Path(data), Path(out)
    findings, offered = audited(model, data, noise, timed)
    audit.require(findings)
    seen = collect(
        model.path, arrays.stream(data), most=most, stop=stop, sizes=offered, progress=progress
    )
    out.mkdir(parents=True, exist_ok=True)
    sketch.write(out / SKETCHES, seen.sketches)
    return Calibration(
        sketches=out / SKETCHES,
        feeds=seen.feeds,
        offered=arrays.count(data),
        settled=seen.settled,
        moving=seen.moving,
        findings=(*findings, *audit.strange(seen.sketches), *audit.outliers(seen.sketches)),
    )


def audited(
    model: Model, data: Path, noise: Sequence[str] = (), timed: Sizes | None = None
) -> tuple[tuple[Finding, ...], Sizes]:
    """What the auditor says of every feed in `data`, and the sizes that they have; nothing is run.

    Raises UsageError for data that is absent or not of this model."""
    from accel.calibration import audit

    auditor = audit.Auditor(model.inputs, noise)
    for i, feed in enumerate(arrays.stream(data)):
        arrays.fit(feed, model.inputs, f"calibration feed {i}")
        auditor.add(feed)
    if not auditor.feeds:
        raise UsageError(f"{data} holds no feeds; 1 is the least.")
    return auditor.findings(timed), auditor.sizes()


def sizes(feeds: Iterable[Feed]) -> Sizes:
    """Input -> for each axis, the sizes that occur."""
    found: dict[str, list[set[int]]] = {}
    for feed in feeds:
        for name, value in feed.items():
            axes = found.setdefault(name, [set() for _ in value.shape])
            for axis, size in zip(axes, value.shape, strict=False):
                axis.add(size)
    return {name: [sorted(axis) for axis in axes] for name, axes in found.items()}
