"""What a placement says: coverage of each device, nodes that fell or slipped, copies. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from accel.values import Placed, Placement

FEW = 2  # names that are kept of nodes alike that run as planned
MOST = 6  # operators told in a line for people; a manifest has them all
REFORMATS = {"Reformat", "Reorder", "ReorderInput", "ReorderOutput"}  # layouts, on one device


def gathered(rows: Iterable[Placed]) -> tuple[Placed, ...]:
    """Rows brought together where all but their names agree, the most frequent first.

    Of those as planned a few names are kept, so that a manifest stays small."""
    counts: Counter[Placed] = Counter()
    names: dict[Placed, list[str]] = {}
    for row in rows:
        kind = dataclasses.replace(row, count=0, nodes=())
        counts[kind] += row.count
        names.setdefault(kind, []).extend(row.nodes)
    return tuple(
        dataclasses.replace(k, count=n, nodes=tuple(names[k] if _off(k) else names[k][:FEW]))
        for k, n in counts.most_common()
    )


def _off(row: Placed) -> bool:
    return row.planned_device not in ("", row.device) or row.planned_dtype not in ("", row.dtype)


def coverage(placement: Placement) -> Mapping[str, float]:
    """Device -> the share of the nodes that run there, 0.0 to 1.0; also of a device that was
    planned and has none, so that a gate on it fails rather than finds nothing."""
    rows = placement.placed
    total = sum(p.count for p in rows) or 1
    devices = dict.fromkeys([*(p.device for p in rows), *(p.planned_device for p in rows)])
    return {d: sum(p.count for p in rows if p.device == d) / total for d in devices if d}


def fallen(placement: Placement) -> tuple[Placed, ...]:
    """Nodes that run on another device than the plan asked for."""
    return tuple(p for p in placement.placed if p.planned_device not in ("", p.device))


def slipped(placement: Placement) -> tuple[Placed, ...]:
    """Nodes that compute in another precision than the plan asked for."""
    return tuple(p for p in placement.placed if p.planned_dtype not in ("", p.dtype))


def as_planned(placement: Placement) -> float:
    """The share of the nodes whose device and precision are as planned, 0.0 to 1.0."""
    total = sum(p.count for p in placement.placed) or 1
    return 1 - _count(p for p in placement.placed if _off(p)) / total


def census(placement: Placement) -> Mapping[str, int]:
    """Precision -> nodes that compute in it; "unknown" where the runtime does not tell."""
    found: Counter[str] = Counter()
    for row in placement.placed:
        found[row.dtype or "unknown"] += row.count
    return dict(found.most_common())


def copies(placement: Placement) -> int:
    """Tensors that cross between devices at each call, inputs and outputs apart."""
    return sum(c.count for c in placement.copied)


def metrics(placement: Placement) -> Mapping[str, float]:
    """What a gate can hold, by flat names: "coverage.GPU", "nodes.int8", "nodes_fallen", ...

    Reformats are changes of layout, for which the device computes nothing; no copies."""
    rows = placement.placed
    return {
        **{f"coverage.{device}": share for device, share in coverage(placement).items()},
        "nodes": _count(rows),
        **{f"nodes.{dtype}": count for dtype, count in census(placement).items()},
        "nodes_fallen": _count(fallen(placement)),
        "nodes_slipped": _count(slipped(placement)),
        "nodes_not_as_planned": _count(p for p in rows if _off(p)),
        "reformats": _count(p for p in rows if p.operator in REFORMATS),
        "copies": copies(placement),
    }


def _count(rows: Iterable[Placed]) -> int:
    return sum(p.count for p in rows)


def line(placement: Placement) -> str:
    """One line: nodes, devices, precisions, and what is not as planned."""
    rows = placement.placed
    told = [f"{share:.0%} {device}" for device, share in coverage(placement).items()]
    told += [f"{count} {dtype}" for dtype, count in census(placement).items()]
    off = _count(p for p in rows if _off(p))
    told += [f"{off} not as planned"] if off else ["all as planned"]
    told += [f"{copies(placement)} copies a call"] if placement.copied else []
    return f"{_count(rows)} nodes: " + ", ".join(told)


def lines(placement: Placement) -> list[str]:
    """A few lines: each precision with its operators, what is not as planned, copies, the source."""
    several = len({p.by for p in placement.placed}) > 1
    found = [line(placement)]
    for dtype in census(placement):
        rows = [p for p in placement.placed if (p.dtype or "unknown") == dtype]
        found.append(f"{dtype}: {_most([_told(p, several) for p in rows])}")
    found += [_plainly(p) for p in placement.placed if _off(p)]
    for c in placement.copied:
        causes = f", for {_most(c.causes)}" if c.causes else ""
        found.append(f"copied at each call: {c.count} from {c.source} to {c.target}{causes}")
    return [*found, f"read from: {placement.source}"] if placement.source else found


def _told(row: Placed, several: bool) -> str:
    return f"{row.operator} {row.count}" + (f" by {row.by}" if several and row.by else "")


def _plainly(row: Placed) -> str:
    planned = " ".join(filter(None, (row.planned_device, row.planned_dtype)))
    runs = " ".join(filter(None, (row.device, row.dtype)))
    names = f" ({_most(row.nodes)})" if row.nodes else ""
    return f"not as planned: {row.operator} {row.count}, asked {planned}, runs {runs}{names}"


def _most(told: Sequence[str]) -> str:
    more = f" and {len(told) - MOST} more" if len(told) > MOST else ""
    return ", ".join(told[:MOST]) + more
