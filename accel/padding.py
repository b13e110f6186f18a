"""Shape buckets: a few static shapes that cover the requests, and padding up to them.

Engines that pay for dynamic shapes compile one static plan a bucket. More buckets fit tighter, but
each costs memory and time to load, and every change between them costs time: on MiniLM four and six
tied, and twelve took 1.08 times as long. Candidates with and without them compete.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from accel.values import Feed, Model, Request

MOST = 4  # per set of the other axes; not rounded: every row of padding costs its 3 % on MiniLM
SETS = 8  # of the other axes: each is a graph of its own in memory, and seconds of compiling

Sizes = dict[str, int]  # axis symbol -> size


def sizes_of(model: Model, feed: Feed) -> Sizes:
    """The size of every symbolic axis, as this feed has it."""
    return {
        dim: int(feed[port.name].shape[axis])
        for port in model.inputs
        for axis, dim in enumerate(port.shape)
        if isinstance(dim, str) and port.name in feed
    }


def padded_axes(model: Model, padding: Mapping[str, float]) -> set[str]:
    """Symbols that may be padded: not the batch, and every input that has them can be filled. None where
    an output has an axis of another name: how long it is without the padding nobody knows, so that
    nothing could be cut back."""
    known = {d for p in model.inputs for d in p.shape} - {"?"}
    if any(isinstance(d, str) and d not in known for p in model.outputs for d in p.shape):
        return set()
    batch = {port.shape[0] for port in model.inputs if port.shape}
    symbols = {d for p in model.inputs for d in p.shape if isinstance(d, str)} - batch
    bare = {d for p in model.inputs if p.name not in padding for d in p.shape}
    return {s for s in symbols if s not in bare}


def buckets(
    model: Model, requests: Sequence[Request], padding: Mapping[str, float], most: int = MOST
) -> list[Sizes]:
    """For each size of the axes that cannot be padded, at most `most` sizes of each that can; of their
    combinations those that a request needs, and the largest. Where the axes that cannot be padded have
    more than SETS sizes, those that most of the requests' weight is on: the others are served dynamic."""
    axes = padded_axes(model, padding)
    load: dict[tuple[tuple[str, int], ...], float] = {}
    found: dict[tuple[tuple[str, int], ...], dict[str, dict[int, float]]] = {}
    for request in requests:
        sizes = sizes_of(model, request.inputs)
        fixed = tuple(sorted((k, v) for k, v in sizes.items() if k not in axes))
        for axis in axes & set(sizes):
            seen = found.setdefault(fixed, {}).setdefault(axis, {})
            seen[sizes[axis]] = seen.get(sizes[axis], 0.0) + request.weight
        found.setdefault(fixed, {})
        load[fixed] = load.get(fixed, 0.0) + request.weight
    heaviest = sorted(found, key=lambda fixed: -load[fixed])[:SETS]  # stable: else the first seen
    every = [
        [
            dict(fixed) | dict(zip(per_axis, chosen, strict=True))
            for chosen in itertools.product(*(partition(w, most) for w in per_axis.values()))
        ]
        for fixed, per_axis in found.items()
        if fixed in heaviest
    ]
    made = [shape for shapes in every for shape in shapes]
    needed = [fitting(made, sizes_of(model, r.inputs), axes) for r in requests]
    return [s for shapes in every for s in shapes if s in needed or s is shapes[-1]]


def partition(weights: Mapping[int, float], most: int) -> list[int]:
    """The at most `most` sizes that minimise the expected padded size (exact, by recursion on the
    number of buckets: a bucket serves every size above the bucket before it)."""
    sizes = sorted(weights)
    total = [0.0, *itertools.accumulate(weights[s] for s in sizes)]
    best: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {
        (0, 0): (0.0, ())
    }  # (sizes covered, buckets used) -> (cost, chosen)
    for used in range(1, most + 1):
        for end in range(1, len(sizes) + 1):
            options = [
                (best[start, used - 1][0] + sizes[end - 1] * (total[end] - total[start]),
                 (*best[start, used - 1][1], sizes[end - 1]))
                for start in range(end)
                if (start, used - 1) in best
            ]  # fmt: skip
            if options:
                best[end, used] = min(options)
    return list(min(v for (end, _), v in best.items() if end == len(sizes))[1])


def varied(requests: Sequence[Request], least: int) -> list[Feed]:
    """Inputs of at least `least` requests (where there are so many), with every shape among them.

    A runtime may be wrong at one shape alone: OpenVINO 2026's int8 MatMul + Relu gave zeros where a
    thread has 8 static rows or fewer."""
    seen: dict[tuple[tuple[str, tuple[int, ...]], ...], int] = {}
    ranked = []
    for request in requests:
        shape = tuple((name, array.shape) for name, array in sorted(request.inputs.items()))
        seen[shape] = seen.get(shape, -1) + 1
        ranked.append((seen[shape], request.inputs))
    ranked.sort(key=lambda pair: pair[0])  # stable: the first of each shape, then the second
    return [inputs for _, inputs in ranked[: max(least, len(seen))]]


def fitting(found: Sequence[Sizes], wanted: Sizes, axes: set[str]) -> Sizes | None:
    """The smallest bucket that holds these sizes, or None; other axes must agree exactly."""
    able = [
        b for b in found if all(b[k] >= v if k in axes else b[k] == v for k, v in wanted.items())
    ]
    return min(able, key=lambda b: (math.prod(b.values()), sorted(b.items())), default=None)
