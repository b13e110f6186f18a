"""An epoch of real processes: what is fresh, what is kept, and whose fault a failure is."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from accel import store, testing
from accel.errors import CandidateBroken, MissingExtra, NoBaseline
from accel.evidence import BASELINE, CANDIDATE, SHADOW, Rules, Subject
from accel.gating import copies, sampler
from accel.measure.worker import Worker
from accel.steps._subject import subject
from accel.values import Plan

pytestmark = pytest.mark.alone
SHORT = Rules(rounds=3, block_s=0.004, warmup_calls=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A small network, built by ONNX Runtime."""
    folder = tmp_path_factory.mktemp("made")
    model = testing.mlp(folder / "m.onnx", width=64, layers=3)
    found = subject(model.path, folder / "plan")
    asked = (testing.request(model, group="one"), testing.request(model, batch=8, group="eight"))
    return dataclasses.replace(found, requests=asked)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, Plan]]:
    """Arm, process and plan of every load; the real worker does it."""
    seen: list[tuple[str, int, Plan]] = []
    real = Worker.load

    def load(self: Worker, plan: Plan, requests: Path) -> Any:
        seen.append((self.name, self.pid, plan))
        return real(self, plan, requests)

    monkeypatch.setattr(Worker, "load", load)
    return seen


def workers(deep: bool = False) -> list[str]:
    """The measuring processes that live, `deep`: and what they started; other tests' forks may live, too."""
    every = (" ".join(p.cmdline()) for p in psutil.Process().children(recursive=deep))
    return [line for line in every if "accel.measure.process" in line]


def arms(made: Subject) -> dict[str, Subject]:
    return {BASELINE: made, CANDIDATE: made, SHADOW: made}


def test_an_epoch_tells_every_statistic_of_every_arm(made: Subject, tmp_path: Path) -> None:
    """Logs against the baseline, the values themselves, rounds, calls, order and all samples."""
    found = sampler.epoch(7, arms(made), made.requests, SHORT, tmp_path)
    assert found.number == 7
    assert found.logs.keys() == {CANDIDATE, SHADOW}
    wanted = {"p50", "p50/one", "p50/eight", "throughput", "cold_start", "peak_memory"}
    assert wanted <= found.logs[CANDIDATE].keys()
    assert all(math.isfinite(x) for logs in found.logs.values() for x in logs.values())
    assert all(len(rounds) == SHORT.rounds for rounds in found.rounds_s.values())
    assert sorted(found.order) == sorted(arms(made))
    assert store.digest_file(tmp_path / found.samples) == found.samples_digest
    with np.load(tmp_path / found.samples) as samples:
        assert len(samples[f"{BASELINE}/ns"]) == found.calls[BASELINE]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == []  # the copies are gone


def test_processes_and_places_are_fresh_in_every_epoch(
    made: Subject, tmp_path: Path, loads: list[tuple[str, int, Plan]]
) -> None:
    """No process and no file of one epoch is met in the next; all paths are equally long."""
    for number in range(2):
        sampler.epoch(number, arms(made), made.requests, SHORT, tmp_path)
    paths = [str(plan.path) for _, _, plan in loads]
    assert len({pid for _, pid, _ in loads}) == len(set(paths)) == 6
    assert len({len(path) for path in paths}) == 1
    assert str(made.plan and made.plan.path) not in paths


def test_the_coin_decides_the_order(
    made: Subject, tmp_path: Path, loads: list[tuple[str, int, Plan]]
) -> None:
    """Epochs differ in the order of their arms, and the same seed and number give the same one."""
    quick = dataclasses.replace(SHORT, rounds=1, warmup_calls=1)
    orders = [sampler.epoch(n, arms(made), made.requests, quick, tmp_path).order for n in range(5)]
    assert len(set(orders)) > 1
    assert sampler.epoch(3, arms(made), made.requests, quick, tmp_path).order == orders[3]
    assert [name for name, _, _ in loads[:3]] == list(orders[0])


def test_a_stretched_arm_is_seen_as_slower(made: Subject, tmp_path: Path) -> None:
    """A lag of 30 times a call's own time shows in p50 and throughput of that arm, far beyond what a
    busy machine does to three short rounds, and not in the other's."""
    found = sampler.epoch(0, arms(made), made.requests, SHORT, tmp_path, {CANDIDATE: 30.0})
    assert found.logs[CANDIDATE]["p50"] > 1.0  # ln 31 = 3.4
    assert found.logs[CANDIDATE]["p50"] > found.logs[SHADOW]["p50"]
    assert found.logs[CANDIDATE]["throughput"] > found.logs[SHADOW]["throughput"]


def test_where_a_pass_is_long_fewer_rounds_are_run(made: Subject, tmp_path: Path) -> None:
    """Every arm alike gets the fewest rounds that a median needs, and no fewer; a short one all."""
    many = dataclasses.replace(SHORT, rounds=sampler.LEAST_ROUNDS + 2)
    patient = dataclasses.replace(many, timed_s=600.0)
    hasty = dataclasses.replace(many, timed_s=0.0)
    for rules, wanted in ((patient, many.rounds), (hasty, sampler.LEAST_ROUNDS)):
        found = sampler.epoch(0, arms(made), made.requests, rules, tmp_path)
        assert {len(rounds) for rounds in found.rounds_s.values()} == {wanted}


def broken(made: Subject, tmp_path: Path) -> Subject:
    plan = made.plan
    assert plan is not None
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a graph")
    return dataclasses.replace(made, plan=dataclasses.replace(plan, path=path))


def test_a_candidate_that_does_not_load_is_broken(made: Subject, tmp_path: Path) -> None:
    """Its own fault, and no process is left behind."""
    sides = {BASELINE: made, CANDIDATE: broken(made, tmp_path)}
    with pytest.raises(CandidateBroken):
        sampler.epoch(0, sides, made.requests, SHORT, tmp_path)
    assert workers(deep=True) == []


def test_a_baseline_that_does_not_load_is_no_baseline(made: Subject, tmp_path: Path) -> None:
    """The candidate is not blamed for it."""
    sides = {BASELINE: broken(made, tmp_path), CANDIDATE: made}
    with pytest.raises(NoBaseline, match="baseline"):
        sampler.epoch(0, sides, made.requests, SHORT, tmp_path)


def test_a_missing_library_is_no_arms_fault(
    made: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes through as what it is, whichever arm asks for it first."""

    def load(*_: Any) -> None:
        raise MissingExtra("engine 'openvino' needs openvino")

    monkeypatch.setattr(Worker, "load", load)
    with pytest.raises(MissingExtra):
        sampler.epoch(0, arms(made), made.requests, SHORT, tmp_path)


def test_where_memory_is_short_arms_run_one_after_another(
    made: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one process lives at a time, and the epoch says as much as any other."""
    monkeypatch.setattr(copies, "fit_together", lambda _: False)
    alive: list[int] = []
    real = Worker.block

    def block(self: Worker, *rest: Any, **words: Any) -> Any:
        alive.append(len(workers()))
        return real(self, *rest, **words)

    monkeypatch.setattr(Worker, "block", block)
    found = sampler.epoch(0, arms(made), made.requests, SHORT, tmp_path)
    assert set(alive) == {1}
    assert "p50" in found.logs[CANDIDATE]
