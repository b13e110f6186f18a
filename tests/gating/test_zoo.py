"""The noise zoo of benchmarks/gate, with fewer runs: levels are kept on every made-up machine."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel.gating import signs

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gate"
RUNS = 600
KINDS = ("normal", "t3", "lognormal", "bimodal", "autoregressive", "steps", "process effect", "modes", "skewed")  # fmt: skip


@pytest.fixture(scope="module")
def zoo() -> Any:
    """benchmarks/gate/zoo.py, which is in no package; what it imports lies beside it."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("zoo")
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("zoo", "machines"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def logs(zoo: Any) -> dict[str, Any]:
    """Each kind of noise, [RUNS, epochs]."""
    return dict(zoo.kinds(np.random.default_rng(11), RUNS))


def test_the_zoo_has_every_kind(zoo: Any, logs: dict[str, Any]) -> None:
    """Six of blocks, three of epochs, and the one that the gate does not claim to cover."""
    assert tuple(logs) == (*KINDS, zoo.ASSUMED)
    assert {x.shape for x in logs.values()} == {(RUNS, zoo.EPOCHS)}


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_kept(kind: str, zoo: Any, logs: dict[str, Any]) -> None:
    """False FAIL, false PASS and the interval's misses, up to three standard errors."""
    fail, ok, covered = zoo.judged(logs[kind])
    assert not zoo.above(fail, zoo.ALPHA_FAIL, RUNS)
    assert not zoo.above(ok, zoo.ALPHA_PASS, RUNS)
    assert not zoo.above(1 - covered, 1 - zoo.LEVEL, RUNS)
    assert covered < 1  # it is an interval, not everything


def test_dependent_epochs_are_what_it_cannot_stand(zoo: Any, logs: dict[str, Any]) -> None:
    """AR(0.5) from epoch to epoch breaks the level, and the runs test sees a part of it."""
    fail, _, covered = zoo.judged(logs[zoo.ASSUMED])
    assert zoo.above(fail, zoo.ALPHA_FAIL, RUNS)
    assert zoo.above(1 - covered, 1 - zoo.LEVEL, RUNS)
    assert zoo.unfit(logs[zoo.ASSUMED][:200]) > 0.05


def test_without_the_coin_a_slow_second_slot_is_a_false_alarm(zoo: Any) -> None:
    """Half a standard deviation, always on the candidate: nearly every run fails."""
    draw = np.random.default_rng(11)
    blocks = sys.modules["machines"].autoregressive(draw, (200, zoo.EPOCHS, 8, 2))
    assert zoo.judged(sys.modules["machines"].fixed_order(blocks))[0] > 0.9
    assert zoo.judged(sys.modules["machines"].paired(blocks, draw))[0] < 0.05


def test_a_family_at_its_budgets_keeps_the_level(zoo: Any) -> None:
    """Five cells that share noise, any of them failing."""
    assert not zoo.above(zoo.family(np.random.default_rng(11), RUNS), zoo.ALPHA_FAIL, RUNS)


def test_the_quick_crossing_is_the_gate_s_own(zoo: Any) -> None:
    """The table's vectorised first crossing, against the sequential test of each prefix."""
    logs = 0.4 + np.random.default_rng(11).standard_normal((30, zoo.EPOCHS))
    found = zoo.first((logs > 0).astype(float), zoo.ALPHA_FAIL)
    for run, seen in zip(logs.tolist(), found, strict=True):
        crossed = [n for n in range(1, 41) if signs.run(run[:n], 0.0).e_worse >= 100]
        assert seen == (crossed[0] if crossed else np.inf)
    assert 0 < np.isfinite(found).sum() < 30


@pytest.mark.parametrize(
    ("budget", "sigma", "true", "fail", "passed"),
    [(1.03, 0.02, 1.05, 0.89, 0), (1.03, 0.02, 1.0, 0, 1), (1.01, 0.01, 1.02, 0.91, 0), (1.03, 0.04, 1.02, 0, 0.15)],
)  # fmt: skip
def test_power_is_what_the_design_foresaw(
    zoo: Any, budget: float, sigma: float, true: float, fail: float, passed: float
) -> None:
    """Four cells of its operating characteristic, within three standard errors of its 2 digits."""
    found = zoo.characteristic(np.random.default_rng(11), budget, sigma, true, 2000)
    assert found[:2] == pytest.approx((fail, passed), abs=0.03)


def test_the_exact_script_finds_every_level_kept(zoo: Any) -> None:
    """And prints the figures that the design quotes."""
    exact = importlib.import_module("exact")
    try:
        text = "\n".join(exact.tables())
        assert all(p <= a for (_, a), p in exact.crossing().items())
        assert "| 40 | 0.02379 | 0.00456 |" in text
        assert exact.rerun() == pytest.approx((0.4013, 0.2140, 0.0342), abs=5e-5)
    finally:
        del sys.modules["exact"]
