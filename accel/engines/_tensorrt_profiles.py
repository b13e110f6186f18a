"""Optimization profiles from a workload's requests: pure, no TensorRT is needed.

A profile is, for each input, the smallest, the best and the largest shape. TensorRT picks kernels for
the best one that are right for all of the range, and refuses shapes outside it (Python API,
IOptimizationProfile). The best is the shape that carries most of the traffic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from accel import padding
from accel.errors import CandidateBroken, UsageError
from accel.values import Feed, Port, Request

Shape = tuple[int, ...]
Range = dict[str, list[int]]  # "min", "opt", "max"
Profile = dict[str, Range]  # input -> range of its shape
Ranges = Mapping[str, Sequence[int]]  # axis symbol -> [smallest, largest], as the user gives it
ROOM = 2  # times the largest requested size: a metric's samples, and later traffic, may be larger
EXACT_MOST = 8  # profiles of one shape each: every one has its own kernels in the plan
BOUNDS = ("min", "opt", "max")


def groups(
    ports: Sequence[Port], requests: Sequence[Request], most: int, exact: bool = False
) -> tuple[tuple[Request, ...], ...]:
    """The requests that share a profile, smallest shapes first; at most `most` groups.

    They are parted so that the expected size of a group's largest shape is least, which is what
    `padding.partition` does for buckets. `exact`: a group for each shape, as DLA cores need it (onnx/tensorflow-onnx #1632).
    Raises CandidateBroken where an axis is open and there is no request."""
    if most < 1:
        raise UsageError(f"profiles must be a whole number above 0, not {most}.")
    if not requests:
        _closed(ports)
        return ((),)
    if exact:
        return _each_shape(ports, requests)
    weights: dict[int, float] = {}
    for request in requests:
        size = _elements(ports, request.inputs)
        weights[size] = weights.get(size, 0.0) + request.weight
    bounds = padding.partition(weights, most)
    found: dict[int, list[Request]] = {}
    for request in requests:
        size = _elements(ports, request.inputs)
        found.setdefault(min(b for b in bounds if b >= size), []).append(request)
    return tuple(tuple(found[b]) for b in sorted(found))


def _closed(ports: Sequence[Port]) -> None:
    open_ = [p.name for p in ports if any(not isinstance(d, int) for d in p.shape)]
    if open_:
        raise CandidateBroken(
            f"Inputs {', '.join(open_)} have open axes, and there is no request to take their "
            "ranges from. Add requests() to the workload, or give --data x.npz."
        )


def _each_shape(
    ports: Sequence[Port], requests: Sequence[Request]
) -> tuple[tuple[Request, ...], ...]:
    found: dict[tuple[Shape, ...], list[Request]] = {}
    for request in requests:
        found.setdefault(_shapes(ports, request.inputs), []).append(request)
    if len(found) > EXACT_MOST:
        raise CandidateBroken(
            f"The requests have {len(found)} shapes; a DLA core takes fixed shapes only, and at most "
            f"{EXACT_MOST} are built. Pad the inputs to fewer shapes, or leave dla out."
        )
    return tuple(tuple(found[k]) for k in sorted(found, key=lambda k: sum(map(math.prod, k))))


def _shapes(ports: Sequence[Port], feed: Feed) -> tuple[Shape, ...]:
    return tuple(tuple(int(n) for n in feed[p.name].shape) for p in ports)


def _elements(ports: Sequence[Port], feed: Feed) -> int:
    return sum(math.prod(shape) for shape in _shapes(ports, feed))


def heaviest(ports: Sequence[Port], group: Sequence[Request]) -> Request:
    """Of the shape with the largest share of the traffic; of two that tie, the larger one."""
    weights: dict[tuple[Shape, ...], float] = {}
    for request in group:
        key = _shapes(ports, request.inputs)
        weights[key] = weights.get(key, 0.0) + request.weight

    def share(request: Request) -> tuple[float, int]:
        key = _shapes(ports, request.inputs)
        return weights[key], sum(math.prod(shape) for shape in key)

    return max(group, key=share)


def profile(
    ports: Sequence[Port],
    group: Sequence[Request],
    ranges: Ranges | None = None,
    exact: bool = False,
    room: int = 1,
) -> Profile:
    """The range of each input's shape. An open axis begins at 1, so that a smaller shape than was
    requested, as the samples of a metric may have it, runs too; it ends at `room` times the largest.

    `ranges` says otherwise, an axis symbol at a time. Raises UsageError for one that does not hold
    the requests or names no axis."""
    if not group:
        return {p.name: {b: [int(d) for d in p.shape] for b in BOUNDS} for p in ports}
    asked = {} if exact else dict(ranges or {})
    _known(ports, asked)
    best = heaviest(ports, group).inputs
    return {p.name: _range(p, group, best, asked, 0 if exact else room) for p in ports}


def _known(ports: Sequence[Port], asked: Ranges) -> None:
    symbols = sorted({d for p in ports for d in p.shape if isinstance(d, str)})
    for symbol, bounds in asked.items():
        pair = list(bounds)
        if symbol not in symbols:
            raise UsageError(f"ranges: no axis is {symbol!r}; open axes: {', '.join(symbols)}.")
        if len(pair) != 2 or not 0 <= pair[0] <= pair[1]:
            raise UsageError(f"ranges: {symbol!r} must be [smallest, largest], not {pair}.")


def _range(port: Port, group: Sequence[Request], best: Feed, asked: Ranges, room: int) -> Range:
    """`room` 0: only the best shape."""
    found: Range = {bound: [] for bound in BOUNDS}
    for axis, dim in enumerate(port.shape):
        seen = [int(r.inputs[port.name].shape[axis]) for r in group]
        opt = int(best[port.name].shape[axis])
        low, high = min(1, *seen), max(seen) * room
        if isinstance(dim, int) or not room:
            low = high = opt
        elif dim in asked:
            low, high = (int(n) for n in asked[dim])
            if not low <= min(seen) <= max(seen) <= high:
                raise UsageError(
                    f"ranges: {dim!r} is {low} to {high}; the requests need {min(seen)} to {max(seen)}."
                )
        for bound, size in zip(BOUNDS, (low, opt, high), strict=True):
            found[bound].append(size)
    return found


def values(name: str, group: Sequence[Request], best: Feed) -> Range:
    """The range of the values of an input that is read as a shape ("shape input"): at each place
    the smallest and the largest that was requested. Raises CandidateBroken without requests."""
    if not group:
        raise CandidateBroken(
            f"Input {name!r} is read as a shape: its values need a range, and there is no request to "
            "take it from. Add requests() to the workload, or give --data x.npz."
        )
    rows = [_flat(request.inputs[name]) for request in group]
    if len({len(row) for row in rows}) > 1:
        raise CandidateBroken(
            f"Input {name!r} is read as a shape, and the requests give it different lengths; its "
            "length must be fixed. Export the model with that axis fixed."
        )
    columns = list(zip(*rows, strict=True))
    return {
        "min": [min(column) for column in columns],
        "opt": _flat(best[name]),
        "max": [max(column) for column in columns],
    }


def _flat(array: Any) -> list[int]:
    return [int(v) for v in array.ravel()]
