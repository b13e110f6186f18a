"""Parts of a graph that are put back to float32 as one, and what share of its products each has. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel.qdq import tables
from accel.qdq.sites import PRODUCTS, Site, sites

if TYPE_CHECKING:
    from accel.sketch import Sketch


@dataclass(frozen=True)
class Region:
    """Neighbours in the order of the graph."""

    names: tuple[str, ...]  # of sites
    share: float  # of all multiplications; the least one's for a product whose sizes were not seen

    @property
    def title(self) -> str:
        """ "/layer.3/MatMul", or "/layer.3/MatMul and 3 more"."""
        more = f" and {len(self.names) - 1} more" if len(self.names) > 1 else ""
        return f"{self.names[0]}{more}"


def regions(
    proto: Any, sketches: Mapping[str, Sketch], with_tables: bool = False
) -> tuple[Region, ...]:
    """One for each product that can be int8, and each table: that has the least share, since it saves bytes
    alone. `sketches` tell how large outputs are on real data."""
    found = [s for s in sites(proto) if s.operator in PRODUCTS]
    sizes = {t.name: t.dims for t in proto.graph.initializer}
    work = [_multiplications(proto.graph.node[s.index], s, sizes, sketches) for s in found]
    least = min((w for w in work if w), default=1.0)
    total = sum(w or least for w in work) or 1.0
    looked_up = [Region((name,), least / total) for name in tables.tables(proto) if with_tables]
    products = zip(found, work, strict=True)
    return (*looked_up, *(Region((s.name,), (w or least) / total) for s, w in products))


def _multiplications(
    node: Any, site: Site, sizes: Mapping[str, Sequence[int]], sketches: Mapping[str, Sketch]
) -> float:
    """Over all calibration data: the output's numbers times what each is a sum of. 0: not known."""
    made = sketches.get(node.output[0])
    if made is None:
        return 0.0
    if site.weight is None:  # of two activations: the first one's channels stand last
        first = sketches.get(node.input[0])
        channels = None if first is None else first.channel_sum
        return 0.0 if channels is None else float(made.count) * len(channels)
    dims = sizes[site.weight.name]
    if node.op_type == "ConvTranspose":  # every input is multiplied with each number of its kernel
        read = sketches.get(node.input[0])
        return 0.0 if read is None else float(read.count) * math.prod(dims[1:])
    if node.op_type == "Conv":
        return float(made.count) * math.prod(dims[1:])
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return float(made.count) * dims[-1 if site.weight.slot == 0 or turned else -2]


def grouped(found: Sequence[Region], most: int) -> tuple[Region, ...]:
    """At most so many, of neighbours: what there is no time to try apart is tried together."""
    if len(found) <= most:
        return tuple(found)
    size = -(-len(found) // most)
    groups = [found[i : i + size] for i in range(0, len(found), size)]
    return tuple(
        Region(tuple(n for r in g for n in r.names), sum(r.share for r in g)) for g in groups
    )
