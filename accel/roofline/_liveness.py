"""How much memory a graph's values take at most, when its nodes run in the file's order.

A value lives from the node that makes it to the last one that reads it (liveness analysis; Aho, Lam,
Sethi, Ullman, "Compilers", 2nd ed., 9.2.5). The caller's inputs live through the whole call, and outputs
to its end. A node's outputs never take the place of its inputs.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from accel.roofline import _constant, _sizes
from accel.roofline._sizes import Opened, Sized

FOLDED = (*_constant.VIEWS, "DequantizeLinear")
LAID_OUT = (*FOLDED, "Transpose")  # of a weight the integers are, not what they stand for


@dataclass(frozen=True)
class Peak:
    """The most memory that a graph's values take, and where."""

    weights_bytes: int
    activations_bytes: int  # inputs, outputs and what lies between them, at the peak
    total_bytes: int
    node: str  # where the peak is: its name, or its first output's; empty: a graph without any
    live: tuple[tuple[str, int], ...]  # (value, bytes) at the peak, largest first
    unknown: tuple[str, ...]  # values whose size cannot be told: they count as 0


def peak(model: Path | Opened, sizes: Mapping[str, int]) -> Peak:
    """The peak of a model with these sizes for its open axes (see `axes`).

    Reshapes and DequantizeLinear take no memory: engines read what is below them. Neither do nodes over
    weights alone, unless what they make is larger than the weights. Not in it: the runtime itself,
    the workspace of its kernels, and copies of weights that it lays out anew.
    Raises BadModel and UsageError like `work`."""
    return of(_sizes.bind(model, sizes))


def of(sized: Sized) -> Peak:
    """The peak of a graph with bound sizes."""
    fixed = _constant.roots(sized)
    at, live, unknown = _highest(
        sized, sized.nodes, sized.outputs, sized.inputs, ChainMap({**fixed})
    )
    weights_bytes = _weights(sized, fixed)
    activations_bytes = sum(live.values())
    return Peak(
        weights_bytes=weights_bytes,
        activations_bytes=activations_bytes,
        total_bytes=weights_bytes + activations_bytes,
        node=at,
        live=tuple(sorted(live.items(), key=lambda item: -item[1])),
        unknown=tuple(dict.fromkeys(unknown)),
    )


def _weights(sized: Sized, fixed: Mapping[str, frozenset[str]]) -> int:
    """Weights and Constants, those of subgraphs too, and what folding makes larger."""
    names = frozenset().union(*fixed.values()) if fixed else frozenset()
    total = sum(sized.of(name).size_bytes or 0 for name in names)
    for node in sized.nodes:
        total += sum(_inner_weights(inner) for inner in _constant.subgraphs(node))
        own = [name for name in node.output if name]
        if own and _constant.kind(node) not in LAID_OUT and _constant.is_fixed(node, fixed):
            made = sum(sized.of(name).size_bytes or 0 for name in own)
            of = sum(sized.of(name).size_bytes or 0 for name in fixed[own[0]])
            total += max(0, made - of)
    return total


def _inner_weights(part: Any) -> int:
    total: int = sum(_bits(t) for t in part.initializer) // 8
    for node in part.node:
        total += sum(_inner_weights(inner) for inner in _constant.subgraphs(node))
    return total


def _bits(tensor: Any) -> int:
    elements: int = math.prod(tensor.dims)
    return elements * (_sizes.width_bits(_sizes.dtype(tensor.data_type)) or 0)


def _highest(
    sized: Sized,
    nodes: Sequence[Any],
    outputs: Sequence[str],
    held: Sequence[str],
    fixed: ChainMap[str, Any],
) -> tuple[str, dict[str, int], list[str]]:
    """Where the most is alive, what that is, and what has no size. `held`: alive throughout."""
    lives = _lives(nodes, outputs, held, fixed)
    told = {name: sized.of(name).size_bytes for name in lives}
    unknown = [name for name, size_bytes in told.items() if size_bytes is None]
    inside = [_inside(sized, node, fixed, unknown) for node in nodes]
    change = [0] * (len(nodes) + 2)
    for name, (born, dies) in lives.items():
        change[born] += told[name] or 0
        change[dies + 1] -= told[name] or 0
    totals = [own + sum(of.values()) for own, of in zip(accumulate(change), inside, strict=False)]
    if not totals:
        return "", {}, unknown
    at = totals.index(max(totals))
    live = {n: told[n] or 0 for n, (born, dies) in lives.items() if born <= at <= dies}
    node = nodes[at]
    return node.name or next(iter(node.output), node.op_type), live | inside[at], unknown


def _lives(
    nodes: Sequence[Any], outputs: Sequence[str], held: Sequence[str], fixed: Mapping[str, Any]
) -> dict[str, tuple[int, int]]:
    """Value that takes memory -> the node that makes it, and the last one that reads it."""
    below = _storage(nodes, fixed)
    last = _last_reads(nodes, below)
    last.update((below.get(name, name), len(nodes)) for name in (*outputs, *held))
    born = dict.fromkeys(held, 0)
    for i, node in enumerate(nodes):
        born |= {n: i for n in node.output if n and n not in fixed and n not in below}
    return {name: (i, max(i, last.get(name, i))) for name, i in born.items()}


def _storage(nodes: Sequence[Any], fixed: Mapping[str, Any]) -> dict[str, str]:
    """Value -> the one whose bytes it shows."""
    below: dict[str, str] = {}
    for node in nodes:
        if _constant.kind(node) in FOLDED and node.output[0] not in fixed:
            below[node.output[0]] = below.get(node.input[0], node.input[0])
    return below


def _last_reads(nodes: Sequence[Any], below: Mapping[str, str]) -> dict[str, int]:
    return {below.get(name, name): i for i, node in enumerate(nodes) for name in _constant.reads(node)}  # fmt: skip


def _inside(
    sized: Sized, node: Any, fixed: ChainMap[str, Any], unknown: list[str]
) -> dict[str, int]:
    """What is alive at the peak of a node's largest subgraph: one of them runs at a time."""
    found: dict[str, int] = {}
    for inner in _constant.subgraphs(node):
        own: dict[str, Any] = dict.fromkeys(t.name for t in inner.initializer)
        names = [v.name for v in inner.input]
        results = [v.name for v in inner.output]
        _, live, more = _highest(sized, inner.node, results, names, fixed.new_child(own))
        unknown += more
        if sum(live.values()) > sum(found.values()):
            found = live
    return found
