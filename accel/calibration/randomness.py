"""Does an array look like what a random number generator gives: even or normal, and without neighbours?

Real inputs are neither: pixels resemble the pixels beside them, words have a few frequent ones, and no
measured quantity keeps to a normal law over tens of thousands of values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT = 1 << 16  # values, of the first feeds
LEAST = 4096  # values; of fewer, nothing is said
LEVEL = 0.01  # of the tests: random data is taken for real in one of a hundred cases
FEW_VALUES = 16  # different integers: labels, masks and segments, which no law is asked of
CELLS = 64


@dataclass
class Sample:
    """Values of one input, with what stands beside them."""

    kept: int = 0
    parts: list[NDArray[Any]] = field(default_factory=list)

    def add(self, value: NDArray[Any]) -> None:
        """Keep it, as long as there is room."""
        if self.kept < KEPT:
            part = np.array(_cut(value))  # a copy: else all of it would stay
            self.parts.append(part)
            self.kept += part.size

    def looks(self) -> str:
        """ "even between 0 and 1", "normal, mean 0, deviation 1"; empty where it does not."""
        flat = np.concatenate([p.ravel() for p in self.parts]) if self.parts else np.zeros(0)
        if flat.size < LEAST or not self._alone():
            return ""
        if flat.dtype.kind in "iu":
            return _even_integers(flat)
        return _even(flat) or _normal(flat)

    def _alone(self) -> bool:
        """Is a value no more like its neighbour than chance makes it, along each of the axes?"""
        for axis in range(max(p.ndim for p in self.parts)):
            pairs = [_pairs(p, axis) for p in self.parts if p.ndim > axis and p.shape[axis] > 1]
            if not pairs:
                continue
            one, two = (np.concatenate(x) for x in zip(*pairs, strict=True))
            deviation = float(one.std() * two.std())
            if len(one) < LEAST // 4 or not deviation:
                continue
            likeness = float(((one - one.mean()) * (two - two.mean())).mean()) / deviation
            if abs(likeness) > 4 / np.sqrt(len(one)):
                return False
        return True


def _cut(value: NDArray[Any]) -> NDArray[Any]:
    """The first of it, as many as there is room for: of the longest axis, whose neighbours stay beside each other."""
    while value.size > KEPT:
        axis = int(np.argmax(value.shape))
        most = max(1, value.shape[axis] * KEPT // value.size)
        value = value[(slice(None),) * axis + (slice(most),)]
    return value


def _pairs(part: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    moved = np.moveaxis(part, axis, 0).astype(np.float64)
    return moved[:-1].ravel(), moved[1:].ravel()


def _even(flat: NDArray[Any]) -> str:
    from scipy.stats import kstest

    low, high = float(flat.min()), float(flat.max())
    even = kstest(flat, "uniform", args=(low, high - low)).pvalue > LEVEL
    return f"even between {low:.3g} and {high:.3g}" if even else ""


def _normal(flat: NDArray[Any]) -> str:
    from scipy.stats import kstest

    mean, deviation = float(flat.mean()), float(flat.std())
    normal = kstest(flat, "norm", args=(mean, deviation)).pvalue > LEVEL
    return f"normal, mean {mean:.3g}, deviation {deviation:.3g}" if normal else ""


def _even_integers(flat: NDArray[Any]) -> str:
    from scipy.stats import chisquare

    low, high = int(flat.min()), int(flat.max())
    if high - low < FEW_VALUES:
        return ""
    cells = min(CELLS, high - low + 1)
    at = (flat.astype(np.float64) - low) * cells // (high - low + 1)
    seen = np.bincount(at.astype(int), minlength=cells)
    width = np.diff(np.ceil(np.arange(cells + 1) * (high - low + 1) / cells))
    expected = width * flat.size / width.sum()
    return f"even between {low} and {high}" if chisquare(seen, expected).pvalue > LEVEL else ""
