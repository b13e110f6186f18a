"""The least time that peak rates allow: the roofline (Williams, Waterman, Patterson, CACM 52(4), 2009).

    unfused   sum over nodes of  max(operations / rate, bytes / bandwidth)
    least     max(all operations / rate, (weights + inputs + outputs) / bandwidth)

`unfused` is what an engine reaches that runs node after node through memory: fusion beats it. `least`
is what no engine beats that does what the graph says, with two exceptions: algorithms that save
products (Winograd's convolutions), and weights that stay in a cache from call to call, where the
bandwidth is the memory's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from accel.roofline._work import NodeWork, Work

OPERATIONS, BANDWIDTH = "_ops_per_s", "bytes_per_s"
# Of these no profile has a rate: their nodes are bound by memory only, and nobody is told.
WHOLE = ("bool", "int32", "int64", "uint32", "uint64", "int16", "uint16", "")


@dataclass(frozen=True)
class NodeFloor:
    """A node's work, and the least time for it alone."""

    work: NodeWork
    floor_s: float | None  # None: no rate that it needs is known, or its cost is not
    bound: str  # "compute", "memory"; empty: neither is known


@dataclass(frozen=True)
class Floor:
    """The least time for a graph on rates that were given."""

    nodes: tuple[NodeFloor, ...]
    unknown: tuple[NodeFloor, ...]  # of the nodes: those whose cost cannot be told
    operations: Mapping[str, int]  # by type
    least_bytes: int
    unfused_s: float | None
    least_s: float | None  # None: no rate is known
    bound: str  # what limits the least: "compute", "memory"
    missing: tuple[str, ...]  # rates that the target does not tell: those parts count as 0 seconds


def floor(work: Work, peaks: Mapping[str, float]) -> Floor:
    """The floors of a graph's work on a target's peak rates ("int8_ops_per_s", "bytes_per_s", ...).

    A rate that is missing is named in the result, and never taken from another type. Types that
    compute at the same time (tensor cores beside other units) are not added up: the slowest counts."""
    nodes = tuple(_node(node, peaks) for node in work.nodes)
    times = {d: n / peaks[d + OPERATIONS] for d, n in work.operations.items() if d + OPERATIONS in peaks}  # fmt: skip
    compute_s = max(times.values(), default=None)
    memory_s = work.least_bytes / peaks[BANDWIDTH] if BANDWIDTH in peaks else None
    least_s, bound = _larger(compute_s, memory_s)
    unfused = [node.floor_s for node in nodes if node.floor_s is not None]
    return Floor(
        nodes=nodes,
        unknown=tuple(node for node in nodes if node.work.unknown),
        operations=work.operations,
        least_bytes=work.least_bytes,
        unfused_s=sum(unfused) if unfused else None,
        least_s=least_s,
        bound=bound,
        missing=tuple(_missing(work, peaks)),
    )


def _node(node: NodeWork, peaks: Mapping[str, float]) -> NodeFloor:
    if node.unknown:
        return NodeFloor(node, None, "")
    rate = peaks.get(node.dtype + OPERATIONS)
    compute_s = None if rate is None else node.operations / rate
    moved = node.read_bytes + node.written_bytes
    memory_s = moved / peaks[BANDWIDTH] if BANDWIDTH in peaks else None
    return NodeFloor(node, *_larger(compute_s, memory_s))


def _larger(compute_s: float | None, memory_s: float | None) -> tuple[float | None, str]:
    if compute_s is None and memory_s is None:
        return None, ""
    if compute_s is not None and compute_s > (memory_s or 0.0):
        return compute_s, "compute"
    return (compute_s, "compute") if memory_s is None else (memory_s, "memory")


def _missing(work: Work, peaks: Mapping[str, float]) -> Iterator[str]:
    for dtype in work.operations:
        if dtype not in WHOLE and dtype + OPERATIONS not in peaks:
            yield dtype + OPERATIONS
    if BANDWIDTH not in peaks:
        yield BANDWIDTH
