"""benchmarks/gate/creep.py on a fake Otava: its noise is what it says, its counts add up."""

from __future__ import annotations

import importlib.util
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from accel.gating import creep
from accel.gating.creep import Creep, Shift
from accel.gating.history import Series

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gate" / "creep.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_creep", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_noise_has_its_spread_and_its_memory(bench: Any, memory: float) -> None:
    """Over a long series, to a few per cent."""
    logs = bench.noise(random.Random(0), 20_000, 0.01, memory)
    assert statistics.stdev(logs) == pytest.approx(0.01, rel=0.05)
    assert statistics.correlation(logs[1:], logs[:-1]) == pytest.approx(memory, abs=0.03)


def fake_find(found: Sequence[Series]) -> Creep:
    """A fake that sees every step as soon as seven gates lie behind it, and one in "n0"."""
    shifts = [
        Shift("made-up", one.name, "p50", "0060", "60", 0.01, 0.01, 7, 0.0)
        for one in found
        if one.name == "n0" or int(one.name.partition("/")[2] or 0) >= 7
    ]
    return Creep(tuple(shifts), len(found))


def test_alarms_and_delays_are_counted(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of four series; every step at its seventh gate, by the shortest cut that shows it."""
    monkeypatch.setattr(creep, "find", fake_find)
    noise = bench.false_alarms(random.Random(0), 4, 0.01, 0.0)
    assert (noise["told"], noise["share"]) == (1, 0.25)
    late = bench.delay(random.Random(0), 3, 0.01, 2.0)
    assert (late["told"], late["steps"], late["median_gates"]) == (3, 3, 7)
