"""What is kept of a tensor's values, however many there were: extremes, counts, sums of channels.

The histogram's bins are 2^e wide and begin at multiples of that. Where values no longer fit into its
bins, e grows and bins are added in pairs, so that no value is ever moved to where it was not: the
histogram is the one that all values at once would give, in any order.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel import disk

BINS = 8192  # at least half of them are in use: a bin is 1/4096 of what was seen, or narrower
NARROWEST = -165  # any two float32 are at least 2^-149 apart, and that over BINS is wider
NO_AXIS = -(1 << 30)  # in a file
FLOAT_BITS = 38  # bins of a single value c < 2^e are 2^(e - 38) wide: no neighbour needs narrower
CHUNK = 1 << 18  # numbers at a time, so that what they pass through stays in the cache


@dataclass
class Sketch:
    """Of one tensor. It only grows: `add`."""

    axis: int | None = None  # of the channels; None: they are not told apart
    count: int = 0  # numbers that were seen, and are finite
    strange: int = 0  # NaN and Inf, which are nowhere else counted
    zeros: int = 0  # exact ones: every quantization keeps them
    low: float = math.inf
    high: float = -math.inf
    exponent: int = NARROWEST  # a bin is 2^exponent wide
    first: int = 0  # the first bin begins at first * 2^exponent
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # [<= BINS]
    channel_low: NDArray[np.float32] | None = None  # [channels]
    channel_high: NDArray[np.float32] | None = None
    channel_sum: NDArray[np.float64] | None = None
    channel_count: int = 0  # numbers in each channel

    def add(self, values: NDArray[Any]) -> None:
        """Take in an array of any shape; memory does not grow with it."""
        flat = np.ascontiguousarray(values, np.float32).ravel()
        finite = np.isfinite(flat)
        if not finite.all():
            self.strange += int(flat.size - np.count_nonzero(finite))
            flat = flat[finite]
        elif self.axis is not None and flat.size and values.ndim:
            self._channels(flat.reshape(values.shape))
        if not flat.size:
            return
        self.count += flat.size
        self.zeros += int(flat.size - np.count_nonzero(flat))
        self._reach(float(flat.min()), float(flat.max()))
        scale = math.ldexp(1.0, -self.exponent)
        for start in range(0, flat.size, CHUNK):
            scaled = np.multiply(flat[start : start + CHUNK], scale, dtype=np.float64)
            at = np.floor(scaled, out=scaled).astype(np.int64) - self.first
            self.counts += np.bincount(at, minlength=len(self.counts))

    def divided(self, scale: NDArray[Any]) -> Sketch:
        """What is known of it once each channel is divided by its scale: no histogram is."""
        if self.channel_low is None or self.channel_high is None or self.channel_sum is None:
            return Sketch()
        low, high = self.channel_low / scale, self.channel_high / scale
        return Sketch(
            axis=self.axis, count=self.count, strange=self.strange, zeros=self.zeros,
            low=float(low.min()), high=float(high.max()), channel_low=low, channel_high=high,
            channel_sum=self.channel_sum / scale, channel_count=self.channel_count,
        )  # fmt: skip

    def edges(self) -> NDArray[np.float64]:
        """Where bins begin and the last one ends, [len(counts) + 1]."""
        return np.ldexp(
            self.first + np.arange(len(self.counts) + 1, dtype=np.float64), self.exponent
        )

    def _reach(self, low: float, high: float) -> None:
        """Make room for `low` and `high` too: the narrowest bins that hold everything."""
        self.low, self.high = low, high = min(low, self.low), max(high, self.high)
        exponent = max(self.exponent, _exponent(low, high))
        first, last = _bin(low, exponent), _bin(high, exponent)
        if (exponent, first, last) == (
            self.exponent,
            self.first,
            self.first + len(self.counts) - 1,
        ):
            return
        made = np.zeros(last - first + 1, np.int64)
        at = _coarser(self.first, len(self.counts), exponent - self.exponent)
        np.add.at(made, at - first, self.counts)
        self.exponent, self.first, self.counts = exponent, first, made

    def _channels(self, values: NDArray[np.float32]) -> None:
        axis = (self.axis or 0) % values.ndim
        others = tuple(i for i in range(values.ndim) if i != axis)
        total = values.sum(axis=others, dtype=np.float64)
        low, high = values.min(axis=others), values.max(axis=others)
        self._channel(low, high, total, values.size // len(total))

    def _channel(self, low: Any, high: Any, total: Any, count: int) -> None:
        if self.channel_sum is None or self.channel_low is None or self.channel_high is None:
            self.channel_low, self.channel_high, self.channel_sum = low, high, total
            self.channel_count = count
        elif len(total) == len(self.channel_sum):
            self.channel_low = np.minimum(self.channel_low, low)
            self.channel_high = np.maximum(self.channel_high, high)
            self.channel_sum = self.channel_sum + total
            self.channel_count += count
        else:  # the axis is one of varying length: there are no channels along it
            self.axis = None
            self.channel_low = self.channel_high = self.channel_sum = None


def _exponent(low: float, high: float) -> int:
    """The least e at which bins 2^e wide, BINS of them, hold both ends."""
    if low == high:
        return max(NARROWEST, math.frexp(low)[1] - FLOAT_BITS) if low else NARROWEST
    e = max(NARROWEST, math.frexp((high - low) / BINS)[1] - 1)
    while _bin(high, e) - _bin(low, e) >= BINS:
        e += 1
    return e


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _coarser(first: int, bins: int, doublings: int) -> NDArray[np.int64]:
    """Index of each bin once bins are 2^doublings times as wide."""
    found: NDArray[np.int64] = (first + np.arange(bins, dtype=np.int64)) >> min(doublings, 63)
    return found


def write(path: Path, sketches: Mapping[str, Sketch]) -> None:
    """All of them in one .npz, whole or not at all."""
    found: dict[str, NDArray[Any]] = {"names": np.asarray(list(sketches), np.str_)}
    for i, one in enumerate(sketches.values()):
        found |= {f"{i}/{key}": value for key, value in arrays(one).items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **found)
    disk.write(path, buffer.getvalue())


def read(path: Path) -> dict[str, Sketch]:
    """What `write` wrote, by the value's name."""
    parts: dict[int, dict[str, NDArray[Any]]] = {}
    with np.load(path, allow_pickle=False) as found:
        names = [str(n) for n in found["names"]]
        for key in found.files:
            index, slash, name = key.partition("/")
            if slash:
                parts.setdefault(int(index), {})[name] = found[key]
    return {name: load(parts[i]) for i, name in enumerate(names)}


def arrays(sketch: Sketch) -> Mapping[str, NDArray[Any]]:
    """What is kept, as arrays for an .npz: `load` reads them."""
    found: dict[str, NDArray[Any]] = {
        "whole": np.asarray(
            [sketch.count, sketch.strange, sketch.zeros, sketch.exponent, sketch.first,
             sketch.channel_count, NO_AXIS if sketch.axis is None else sketch.axis], np.int64
        ),
        "ends": np.asarray([sketch.low, sketch.high], np.float64),
        "counts": sketch.counts,
    }  # fmt: skip
    if sketch.channel_sum is not None:
        found |= {"channel_low": np.asarray(sketch.channel_low),
                  "channel_high": np.asarray(sketch.channel_high),
                  "channel_sum": sketch.channel_sum}  # fmt: skip
    return found


def load(found: Mapping[str, NDArray[Any]]) -> Sketch:
    """The sketch that `arrays` told of."""
    count, strange, zeros, exponent, first, channel_count, axis = found["whole"].tolist()
    low, high = found["ends"].tolist()
    return Sketch(
        axis=None if axis == NO_AXIS else axis, count=count, strange=strange, zeros=zeros,
        low=low, high=high, exponent=exponent, first=first, counts=found["counts"],
        channel_low=found.get("channel_low"), channel_high=found.get("channel_high"),
        channel_sum=found.get("channel_sum"), channel_count=channel_count,
    )  # fmt: skip
