"""Is this calibration data fit to choose ranges by? Findings, a feed at a time; none of them silent.

Ranges from noise or from zeros quantize what production never sends; tools that invent such data do
not say so. What is kept does not grow with the data: a digest a feed, and a part of the values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel import arrays
from accel.calibration import randomness
from accel.errors import UsageError
from accel.plain import shown
from accel.sketch import Sketch
from accel.values import Feed, Finding, Port

RULE = "calibration"
OUTLIER = 20.0  # times the median channel's magnitude
MOST_NAMED = 3
MEND = "have calibration() of the workload yield what production sends"


@dataclass
class _Input:
    """What was seen of one input."""

    low: float = float("inf")
    high: float = float("-inf")
    strange: list[int] = field(default_factory=list)  # feeds with NaN or Inf
    sizes: list[set[int]] = field(default_factory=list)  # an axis each
    sample: randomness.Sample = field(default_factory=randomness.Sample)


@dataclass
class Auditor:
    """Takes feeds as they pass, then tells."""

    ports: Sequence[Port]
    noise: Sequence[str] = ()  # inputs that are noise by their nature: a generator's, a diffuser's
    feeds: int = 0
    repeated: int = 0
    _seen: set[str] = field(default_factory=set)
    _inputs: dict[str, _Input] = field(default_factory=dict)

    def add(self, feed: Feed) -> None:
        """Look at one feed."""
        digest = arrays.digest([feed])
        self.repeated += digest in self._seen
        self._seen.add(digest)
        for name, value in feed.items():
            self._look(self._inputs.setdefault(name, _Input()), np.asarray(value))
        self.feeds += 1

    def findings(
        self, sizes: Mapping[str, Sequence[Collection[int]]] | None = None
    ) -> tuple[Finding, ...]:
        """What is wrong. `sizes`: input -> for each axis, the sizes that are evaluated and timed."""
        found = [*self._strange(), *self._constant(), *self._random(), *self._repeated()]
        return (*found, *self._uncovered(sizes or {}))

    def sizes(self) -> dict[str, list[set[int]]]:
        """Input -> for each axis, the sizes that were seen."""
        return {name: seen.sizes for name, seen in self._inputs.items()}

    def _look(self, seen: _Input, value: NDArray[Any]) -> None:
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            seen.strange.append(self.feeds)
        elif value.size and value.dtype.kind in "fiu":
            seen.low = min(seen.low, float(value.min()))
            seen.high = max(seen.high, float(value.max()))
            seen.sample.add(value)
        if not seen.sizes:
            seen.sizes = [set() for _ in value.shape]
        for axis, size in zip(seen.sizes, value.shape, strict=False):
            axis.add(size)

    def _strange(self) -> Iterable[Finding]:
        for name, seen in self._inputs.items():
            if seen.strange:
                first = ", ".join(map(str, seen.strange[:MOST_NAMED]))
                yield _finding(
                    "error",
                    f"NaN or Inf in {len(seen.strange)} of {self.feeds} feeds: {first}",
                    name,
                )

    def _constant(self) -> Iterable[Finding]:
        floats = [p.name for p in self.ports if p.dtype.startswith("float")]
        zeros = [n for n, s in self._inputs.items() if s.low == s.high == 0]
        flat = [n for n, s in self._inputs.items() if s.low == s.high]
        if floats and set(floats) <= set(zeros):
            yield _finding("error", "all zeros: no range can be read from them", ", ".join(floats))
        elif self._inputs and len(flat) == len(self._inputs):
            yield _finding("error", "no input ever changes", ", ".join(flat))
        for name, seen in self._inputs.items():
            if seen.low == seen.high and name in floats:
                yield _finding("warning", f"always {seen.low:g}, in all {self.feeds} feeds", name)

    def _random(self) -> Iterable[Finding]:
        varying = [n for n, s in self._inputs.items() if s.low < s.high]
        looks = {n: why for n in varying if (why := self._inputs[n].sample.looks())}
        found = {n: why for n, why in looks.items() if n not in self.noise}
        for name, why in found.items():
            level = "error" if set(varying) - set(self.noise) == set(found) else "warning"
            yield _finding(
                level, f"it looks like random numbers ({why}); ranges from noise fit nothing", name
            )

    def _repeated(self) -> Iterable[Finding]:
        if self.repeated:
            text = f"{self.repeated} of {self.feeds} feeds are copies of earlier ones"
            yield _finding("warning", f"{text}: they add time and no knowledge")

    def _uncovered(self, sizes: Mapping[str, Sequence[Collection[int]]]) -> Iterable[Finding]:
        for name, axes in sizes.items():
            seen = self._inputs.get(name, _Input()).sizes
            for axis, (had, wanted) in enumerate(zip(seen, axes, strict=False)):
                if (
                    had
                    and wanted
                    and axis
                    and not min(had) <= min(wanted) <= max(wanted) <= max(had)
                ):
                    yield _finding(
                        "warning",
                        f"axis {axis} is {_span(had)} here, and {_span(wanted)} where it is "
                        "evaluated and timed",
                        name,
                    )


def outliers(sketches: Mapping[str, Sketch]) -> tuple[Finding, ...]:
    """Channels that are much larger than the others: one step for all of them suits none.

    (LLM.int8(), arXiv 2208.07339, and SmoothQuant, arXiv 2211.10438, on what they cost.)"""
    found = []
    for name, sketch in sketches.items():
        if sketch.channel_low is None or sketch.channel_high is None:
            continue
        size = np.maximum(-sketch.channel_low, sketch.channel_high)
        median = float(np.median(size))
        far = np.flatnonzero(size > OUTLIER * median) if median > 0 else np.zeros(0, int)
        if len(far):
            worst = far[np.argsort(-size[far])][:MOST_NAMED]
            told = ", ".join(f"{c} ({size[c] / median:.0f}x)" for c in worst)
            text = (
                f"{len(far)} of {len(size)} channels are over {OUTLIER:g} times the median: {told}"
            )
            found.append(_finding("note", text, name, "scale migration (SmoothQuant) or float"))
    return tuple(found)


def strange(sketches: Mapping[str, Sketch]) -> tuple[Finding, ...]:
    """Values inside the graph that were NaN or infinite: their ranges are of what is left."""
    found = [name for name, sketch in sketches.items() if sketch.strange]
    if not found:
        return ()
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    text = f"NaN or Inf inside the graph, at {found[0]}{more}: ranges are of the finite values"
    return (_finding("warning", text, found[0]),)


def require(findings: Iterable[Finding]) -> None:
    """Raise UsageError where the data is not fit."""
    wrong = [f for f in findings if f.level == "error"]
    if wrong:
        lines = "\n".join(f"  {shown(f'{f.where}: {f.message}', keep='')}" for f in wrong)
        raise UsageError(
            f"This calibration data is not fit:\n{lines}\nMend it: {MEND}. Inputs that are noise by "
            "their nature are named so: noise = ('z',) in the workload, or --noise z."
        )


def _finding(level: Any, message: str, where: str = "", fix: str = MEND) -> Finding:
    return Finding(RULE, level, message, where, fix=fix)


def _span(sizes: Collection[int]) -> str:
    low, high = min(sizes), max(sizes)
    return str(low) if low == high else f"{low} to {high}"
