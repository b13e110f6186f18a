"""Epoch streams made up for the tests of benchmarks/gate, which is in no package."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from accel.evidence import Epoch

GATE = Path(__file__).parents[2] / "benchmarks" / "gate"
ROUNDS = 8


def script(name: str) -> Any:
    """A script of benchmarks/gate; they import each other by their bare names."""
    if str(GATE) not in sys.path:
        sys.path.append(str(GATE))
    return import_module(name)


def epochs(
    count: int, arms: Mapping[str, float], noise: float = 0.0, seed: int = 0
) -> tuple[Epoch, ...]:
    """`arms`: name -> how much slower than 10 ms, as a factor; `noise`: sigma of ln of a round."""
    stream, draw = script("stream"), np.random.default_rng(seed)
    found = []
    for number in range(count):
        rounds = {
            arm: tuple(0.01 * factor * np.exp(noise * draw.standard_normal(ROUNDS)))
            for arm, factor in arms.items()
        }
        values = {
            arm: {"p50": float(np.median(r)), "cold_start": 0.2, "peak_memory": 2.0**27}
            for arm, r in rounds.items()
        }
        found.append(
            Epoch(
                number,
                {
                    arm: stream.ratios(arm, "baseline", rounds, values)
                    for arm in arms
                    if arm != "baseline"
                },
                values,
                rounds,
                dict.fromkeys(arms, 500),
                tuple(str(a) for a in draw.permutation(list(arms))),
                3.0,
                {"foreign_cores": 0.25},
            )
        )
    return tuple(found)


SAME = {"baseline": 1.0, "candidate": 1.0, "shadow": 1.0}
HEADER = {"workload": "made up", "kind": "aa", "rules": {"block_s": 0.05}, "versions": {"a": "1"}}
