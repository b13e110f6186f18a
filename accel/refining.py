"""In what order a graph's settings are tried: its best guess, then the others where that can pay. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

from accel.constraints import Constraints, fits
from accel.naming import graph_of
from accel.search import marked, slow
from accel.values import Candidate

REFINE_MARGIN = 1.6  # other settings of one graph were worth at most this on the models tried
REFINED = 4  # graphs of an engine whose other settings are tried
EVERYTHING = Constraints()
Graph = tuple[str, ...]  # what decides it: naming.graph_of


def waves(candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """The first settings of every graph and engine, and the rest, tried only where it can pay."""
    seen: set[Graph] = set()
    first: list[Candidate] = []
    later: list[Candidate] = []
    for candidate in candidates:
        fresh = candidate.status != "planned" or graph_of(candidate) not in seen
        seen.add(graph_of(candidate))
        (first if fresh else later).append(candidate)
    return tuple(first), tuple(later)


def refine(
    tried: Sequence[Candidate], later: Sequence[Candidate], constraints: Constraints = EVERYTHING
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Of the later settings: those whose graph screened well, or failed in its first settings alone
    (there may be no bucket for it, or no CUDA graph); and those spared, with the reason."""
    made = {graph_of(c) for c in tried if c.size_bytes}
    built = [c for c in tried if c.status == "built" and c.screen_s]
    screened = {graph_of(c): c.screen_s or 0.0 for c in built}
    best = min((c.screen_s or 0.0 for c in built if fits(c, constraints)), default=math.inf)
    quickest = _quickest(screened, {graph_of(c) for c in built if fits(c, constraints)})
    worth: list[Candidate] = []
    spared: list[Candidate] = []
    for candidate in later:
        time_s = screened.get(graph_of(candidate))
        if time_s is None and graph_of(candidate) in made:
            worth.append(candidate)
            continue
        if time_s is None:
            reason = "its graph could not be made"
        elif time_s > REFINE_MARGIN * best:
            reason = slow(time_s, best)
        elif graph_of(candidate) not in quickest:
            reason = f"{REFINED} graphs of this engine were quicker"
        else:
            worth.append(candidate)
            continue
        spared.append(marked(candidate, "pruned", f"{reason} with its first settings"))
    return tuple(worth), tuple(spared)


def _quickest(screened: Mapping[Graph, float], able: Set[Graph]) -> set[Graph]:
    """Of each engine, the graphs whose other settings are tried, those first that may win: ties among
    many teach little."""
    order = sorted(screened, key=lambda graph: (graph not in able, screened[graph]))
    engines = {graph[0] for graph in order}
    return {g for e in engines for g in [one for one in order if one[0] == e][:REFINED]}
