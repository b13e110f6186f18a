"""From traces to figures: medians, the weighted objective, ratios with their intervals."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accel import stats

RESAMPLES = 4000
OBJECTIVE = "weighted"
P50 = ", p50 of calls"


@dataclass(frozen=True)
class Traces:
    """Blocks and facts of all epochs, and the requests they refer to by index."""

    blocks: tuple[Mapping[str, Any], ...]
    facts: tuple[Mapping[str, Any], ...]
    groups: tuple[str, ...]  # per request
    weights: tuple[float, ...]  # per request


@dataclass(frozen=True)
class Ratio:
    """How many times slower one arm is than another, with a 95 % interval."""

    value: float
    low: float
    high: float


def read(folder: Path, requests: Iterable[tuple[str, float, Any]]) -> Traces:
    """Every finished epoch in a folder."""
    lines = [
        json.loads(line)
        for path in sorted(folder.glob("epoch-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    asked = [(group, weight) for group, weight, _ in requests]
    return Traces(
        tuple(line for line in lines if "seconds" in line),
        tuple(line for line in lines if "peak_bytes" in line),
        tuple(group for group, _ in asked),
        tuple(weight for _, weight in asked),
    )


def columns(traces: Traces) -> tuple[str, ...]:
    """Request groups in the workload's order, each followed by its p50 where it has several
    requests, then the objective."""
    groups = dict.fromkeys(traces.groups)
    several = {g for g in groups if traces.groups.count(g) > 1}
    return (*(c for g in groups for c in ((g, g + P50) if g in several else (g,))), OBJECTIVE)


def p50_s(traces: Traces, arm: str) -> dict[str, float]:
    """Seconds of every column.

    A group's is the weighted mean of its requests' medians, as accel's own objective has it: every
    length counts by its share of the traffic. The median over all calls is beside it: what a call
    of middling length takes, whatever the long ones do."""
    return _summary(traces, [b for b in traces.blocks if b["arm"] == arm])


def ratio(traces: Traces, slower: str, faster: str, column: str, seed: int = 0) -> Ratio:
    """slower / faster in one column, paired by round.

    Hierarchical bootstrap of the log ratio: epochs, then rounds within them, with replacement;
    the median over an epoch's rounds, the mean over epochs. It is widened as accel's own is, for the few
    epochs that it is of; of one epoch there is none."""
    logs = [np.asarray(rounds) for rounds in _log_ratios(traces, slower, faster, column).values()]
    rng = np.random.default_rng(seed)
    drawn = [_resampled(logs, rng) for _ in range(RESAMPLES)]
    low, high = (float(q) for q in np.quantile(drawn, (0.025, 0.975)))
    point = float(np.mean([np.median(x) for x in logs]))
    if len(logs) < 2:
        return Ratio(math.exp(point), 0.0, math.inf)
    wide = stats.widening(len(logs))
    ends = point - wide * max(0.0, point - low), point + wide * max(0.0, high - point)
    return Ratio(*(math.exp(x) for x in (point, *ends)))


def _resampled(logs: Sequence[np.ndarray], rng: np.random.Generator) -> float:
    chosen = [logs[i] for i in rng.integers(len(logs), size=len(logs))]
    return float(np.mean([np.median(rng.choice(x, len(x))) for x in chosen]))


def _log_ratios(traces: Traces, slower: str, faster: str, column: str) -> dict[int, list[float]]:
    """epoch -> one log ratio a round."""
    at: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    for block in traces.blocks:
        if block["arm"] in (slower, faster):
            summary = _summary(traces, [block])
            at[block["epoch"], block["round"]][block["arm"]] = summary[column]
    found: dict[int, list[float]] = defaultdict(list)
    for (epoch, _), pair in sorted(at.items()):
        found[epoch].append(float(np.log(pair[slower] / pair[faster])))
    return found


def _summary(traces: Traces, blocks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    request = np.concatenate([b["request"] for b in blocks]).astype(int)
    seconds = np.concatenate([b["seconds"] for b in blocks])
    groups, weights = np.asarray(traces.groups), np.asarray(traces.weights)
    medians = np.asarray([np.median(seconds[request == i]) for i in range(len(weights))])
    found = {OBJECTIVE: float(np.dot(medians, weights))}
    for g in dict.fromkeys(traces.groups):
        mine = groups == g
        found[g] = float(np.average(medians[mine], weights=weights[mine]))
        found[g + P50] = float(np.median(seconds[mine[request]]))
    return {column: found[column] for column in columns(traces)}


def peak_bytes(traces: Traces, arm: str) -> int:
    """Median over epochs of the worker's largest resident size."""
    return int(np.median([f["peak_bytes"] for f in traces.facts if f["arm"] == arm]))


def foreign(traces: Traces, arm: str) -> float:
    """Median over blocks of the cores that other processes used meanwhile."""
    return float(np.median([b["foreign"] for b in traces.blocks if b["arm"] == arm]))
