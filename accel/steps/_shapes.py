"""The shapes at which an exported graph is held against eager."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from accel import workload
from accel.values import Feed, Workload


def shapes(problem: Workload) -> list[Feed]:
    """The example, the example at batch 1, and at another size of every dynamic axis."""
    feed = workload.example(problem)
    sizes, first = sizes_of(problem, feed), _first(problem)
    ones = {n: 1 if n in first else size for n, size in sizes.items()}
    other = {n: _larger(size) for n, size in sizes.items()}
    wanted = [ones, other] if sizes else []
    return [feed, *(_resize(problem, feed, chosen) for chosen in wanted)]


def smaller(problem: Workload) -> Iterator[Feed]:
    """For a model that ends at its example's size, as at 512 positions: at a larger batch, and without."""
    feed = workload.example(problem)
    sizes = sizes_of(problem, feed)
    for kept in (_first(problem), set()) if sizes else ():
        chosen = {n: _larger(x) if n in kept or x == 1 else x - 1 for n, x in sizes.items()}
        yield _resize(problem, feed, chosen)


def _first(problem: Workload) -> set[str]:
    """The names of the first axes."""
    return {n for axes in problem.dynamic.values() for a, n in axes.items() if a == 0}


def _larger(size: int) -> int:
    return size + 1 + (size % 2)


def sizes_of(problem: Workload, feed: Feed) -> dict[str, int]:
    """The size that each dynamic axis has in a feed."""
    return {
        name: feed[port].shape[axis]
        for port, axes in problem.dynamic.items()
        for axis, name in axes.items()
        if port in feed
    }


def sizes_text(sizes: Mapping[str, int]) -> str:
    """As a message says it: batch 2, sequence 7."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) or "the example"


def _resize(problem: Workload, feed: Feed, sizes: Mapping[str, int]) -> Feed:
    """Every dynamic axis cut or tiled to its size."""
    import numpy as np

    found = {}
    for port, value in feed.items():
        array = value
        for axis, name in problem.dynamic.get(port, {}).items():
            array = np.take(array, np.arange(sizes[name]) % array.shape[axis], axis=axis)
        found[port] = np.asarray(array, order="C")  # ascontiguousarray makes a number a vector
    return found
