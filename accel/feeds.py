"""Feeds that users give: arrays of numbers that fit the graph, or one clear error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accel import arrays
from accel.errors import UsageError
from accel.plain import seen
from accel.values import Feed, Port, Request

MOST_BYTES = 1 << 29  # of random numbers, while they are drawn
MOST_AXES = 64  # numpy's own
SEED = 20_261  # of the random feeds for an .onnx that came without data; any fixed number


def checked(found: Any, what: str) -> Feed:
    """A user's mapping as arrays of numbers or booleans; `what` is who gave it.

    Raises UsageError for anything else."""
    if not isinstance(found, Mapping) or not found:
        seen = "an empty one" if isinstance(found, Mapping) else type(found).__name__
        raise UsageError(f"{what} must give a dict of name -> array, not {seen}.")
    return {str(k): _array(v, what, str(k)) for k, v in found.items()}


def _array(value: Any, what: str, name: str) -> Any:
    import numpy as np

    try:
        array = np.asarray(value, order="C")
    except Exception as error:  # a ragged list, a tensor that wants a gradient, ...
        raise UsageError(f"{what}: {name!r} is not an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{what}: {name!r} is {array.dtype}; numbers or booleans are needed.")
    # PyTorch takes no negative stride; that of an axis of size 1 counts as order "C" for numpy
    return array.copy() if min(array.strides, default=0) < 0 else array


def numeric(path: Path, ports: Sequence[Port]) -> None:
    """Raise UsageError unless every input of a graph is a tensor of numbers or booleans."""
    import numpy as np

    for port in ports:
        if port.dtype in ("unknown", "object") or np.dtype(port.dtype).kind not in "fiub":
            what = "not a tensor" if port.dtype == "unknown" else f"{port.dtype}"
            raise UsageError(f"{path}: input {port.name!r} is {what}; numbers or booleans are fed.")


def given(data: str, ports: Sequence[Port]) -> list[Feed]:
    """The feeds of --data. Raises UsageError where they do not fit the graph they are for."""
    feeds = arrays.load(Path(data))
    if not feeds:
        raise UsageError(f"{data} holds no arrays.")
    for i, feed in enumerate(feeds):
        what = f"{data}: feed {i}"
        arrays.fit(feed, ports, what)
        for name, array in feed.items():
            no_nan(what, name, array)
    return feeds


def requests(data: str, ports: Sequence[Port]) -> tuple[Request, ...]:
    """The feeds of --data, each as often as the others. Raises like `given`."""
    feeds = given(data, ports)
    return tuple(Request("data", 1 / len(feeds), feed) for feed in feeds)


def no_nan(what: str, name: str, array: Any) -> None:
    """Raise UsageError for NaN: ranges and distances read from it are NaN too."""
    import numpy as np

    if array.dtype.kind == "f" and np.isnan(array).any():
        raise UsageError(f"{what}: {name!r} holds {int(np.isnan(array).sum())} NaN.")


def random(ports: Sequence[Port]) -> Feed:
    """Seeded normal numbers (ones for other dtypes); every open axis is 1.

    Raises UsageError for an input larger than any that is meant."""
    import numpy as np

    draw, left = np.random.default_rng(SEED), MOST_BYTES
    feed = {}
    for port in ports:
        shape = [d if isinstance(d, int) else 1 for d in port.shape]
        kind = np.dtype(port.dtype)
        # drawn as float64; an axis of 0 does not make the others small
        wanted = 8 * math.prod(max(1, size) for size in shape)
        left -= wanted
        if len(shape) > MOST_AXES or left < 0:
            raise UsageError(
                f"Input {port.name!r} is {seen(shape)}: random numbers are made for {MOST_AXES} axes and "
                f"{MOST_BYTES >> 20} MiB in all, at most. Give feeds of your own: --data feeds.npz"
            )
        values = draw.standard_normal(shape) if kind.kind == "f" else np.ones(shape)
        feed[port.name] = values.astype(kind)
    return feed
