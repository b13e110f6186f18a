"""The heat: who goes to the final is decided by rounds that all contenders shared."""

from __future__ import annotations

import dataclasses
import gc
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from accel import arrays, graph, heats, testing
from accel import target as targets
from accel.job import Job, Ledger, prepare
from accel.measure import instrument
from accel.measure.tally import Tally
from accel.scratch import scratch
from accel.using import Using
from accel.values import Candidate, Measurement, Model, Plan, Refusal


def _contender(name: str, screen_s: float) -> Candidate:
    plan = Plan("openvino", Model(Path("m.onnx"), "d", (), ()), Path(name))
    return Candidate(name, "onnx", "fp32", "openvino", status="built", plan=plan, screen_s=screen_s)


def _measured(folder: Path, name: str, seconds: Any) -> Measurement:
    """A call a round: the machine may change its speed between them."""
    path, rounds = folder / f"{name}.npz", np.arange(len(seconds))
    np.savez(path, request=rounds * 0, epoch=rounds * 0, round=rounds, seconds=seconds)
    return Measurement(name, path, ("all",), (1.0,), 0.1, 0.01, 1, 1, 0)


def test_the_shared_rounds_outweigh_an_unlucky_screening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was screened in a slow minute comes out ahead where its rounds were quicker."""
    speed = np.asarray([1.0, 1.0, 1.5, 1.5, 1.5, 1.0])
    fake = {
        "lucky": _measured(tmp_path, "lucky", 1.1 * speed),
        "unlucky": _measured(tmp_path, "unlucky", 1.0 * speed),
        "dead": Refusal("dead", "it crashed"),
    }
    monkeypatch.setattr(heats, "timed", lambda *_, **__: fake)
    given = [_contender("lucky", 1.0), _contender("unlucky", 1.4), _contender("dead", 1.2)]
    found = heats.heat(cast("Job", None), given, lambda _: None)
    assert found["unlucky"].screen_s == pytest.approx(1.0)
    assert found["lucky"].screen_s == pytest.approx(1.1)
    assert (found["dead"].status, found["dead"].reason) == ("failed", "it crashed")


def test_all_dead_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heat that nobody survives loses all of its candidates, each with its reason."""
    fake = {"a": Refusal("a", "hung"), "b": Refusal("b", "crashed")}
    monkeypatch.setattr(heats, "timed", lambda *_, **__: fake)
    rows = [_contender("a", 1.0), dataclasses.replace(_contender("b", 1.0))]
    found = heats.heat(cast("Job", None), rows, lambda _: None)
    assert {c.status for c in found.values()} == {"failed"}
    assert found["b"].reason == "crashed"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Two requests of a small graph, and its own work folder."""
    testing.mlp(tmp_path / "m.onnx")
    feeds = tmp_path / "feeds.npz"
    arrays.save(feeds, [{"x": np.ones((n, 8), np.float32)} for n in (1, 2)])
    here = targets.load("cpu-local")
    return prepare(str(tmp_path / "m.onnx"), here, str(feeds), tmp_path / "work")


def test_an_interrupted_final_goes_on_with_the_next_epoch(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the third: the first two are not timed again, and stand in the result as they were."""
    monkeypatch.setattr(
        instrument, "fit", lambda *_: True
    )  # of this machine's noise is not asked here
    monkeypatch.setattr(heats, "ROUNDS", 2)
    plans = {name: testing.plan(graph.describe(tmp_path / "m.onnx")) for name in ("a", "b")}

    def stop(text: str) -> None:
        if text.startswith("epoch 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        heats.timed(job, "final", plans, {}, epochs=3, progress=stop)
    kept = {
        p: p.stat().st_mtime_ns for p in (tmp_path / "work/store").glob("final-epoch-*/record.json")
    }
    assert len(kept) == 2
    found = heats.timed(job, "final", plans, {}, epochs=3)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    columns = instrument.columns(cast("Measurement", found["a"]))
    assert set(columns["epoch"]) == {0, 1, 2}
    first = min(kept, key=lambda p: kept[p])
    [one, _] = json.loads(first.read_text())["value"]["tallies"]
    before = one["columns"]["seconds"]
    np.testing.assert_array_equal(columns["seconds"][: len(before)], before)


def test_an_epoch_beside_much_else_is_taken_again(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used, as one of several, and not kept for a later run."""
    answers = iter([True, True, False, False])
    monkeypatch.setattr(heats, "_is_fit", lambda _: next(answers))
    monkeypatch.setattr(instrument, "require_fit", lambda _: None)
    monkeypatch.setattr(heats, "ROUNDS", 2)
    plans = {name: testing.plan(graph.describe(tmp_path / "m.onnx")) for name in ("a", "b")}
    found = heats.timed(job, "final", plans, {}, epochs=2)
    assert set(instrument.columns(cast("Measurement", found["b"]))["epoch"]) == {0, 1}
    assert len(list((tmp_path / "work/store").glob("final-epoch-*/record.json"))) == 1


def test_an_epoch_too_large_to_be_read_back_is_not_kept(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used, and no later run finds a damaged one."""
    monkeypatch.setattr(heats, "_is_fit", lambda _: True)
    monkeypatch.setattr(instrument, "require_fit", lambda _: None)
    monkeypatch.setattr(heats, "ROUNDS", 2)
    monkeypatch.setattr(heats, "MOST_KEPT", 3)
    plans = {"a": testing.plan(graph.describe(tmp_path / "m.onnx"))}
    assert isinstance(heats.timed(job, "final", plans, {}, epochs=1)["a"], Measurement)
    assert not list((tmp_path / "work/store").glob("final-epoch-*/record.json"))


def _tally(epoch: int, dead: str) -> Tally:
    """One call of each of two requests, or none."""
    if dead:
        return Tally(dead=dead)
    columns: dict[str, list[float]] = {
        "request": [0, 1],
        "epoch": [epoch] * 2,
        "round": [0, 0],
        "seconds": [1e-3, 2e-3],
    }
    return Tally(columns, load_s=[0.1], cold_s=[0.01], foreign=[0.0], peak_bytes=1)


def test_an_arm_that_died_is_tried_again_by_the_next_run(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker is killed: its arm is lost and not for good, and no run times the same twice."""
    dying = {"b": "killed by SIGKILL"}
    asked: list[tuple[int, list[str]]] = []

    def taken(_: Any, arms: Any, epoch: int, __: bool) -> tuple[Tally, ...]:
        names = [arm.name for arm in arms.values()]
        asked.append((epoch, names))
        return tuple(_tally(epoch, dying.get(name, "")) for name in names)

    monkeypatch.setattr(instrument, "_taken", taken)
    plans = {name: testing.plan(graph.describe(tmp_path / "m.onnx")) for name in ("a", "b")}

    def run() -> tuple[Job, dict[str, Measurement | Refusal]]:
        fresh = dataclasses.replace(job, ledger=Ledger(), using=Using())
        return fresh, heats.timed(fresh, "final", plans, {}, epochs=2)

    first, found = run()
    assert found["b"] == Refusal("b", "killed by SIGKILL")
    assert first.ledger.text() == "reused 0 of 0 steps, 0 made, 1 tried and failed"
    assert heats.timed(first, "final", plans, {}, epochs=2) == found
    assert asked == [(0, ["a", "b"]), (1, ["a"])]
    assert set(instrument.columns(cast("Measurement", found["a"]))["epoch"]) == {0, 1}
    dying.clear()
    second, found = run()
    assert isinstance(found["b"], Measurement)
    assert asked[2:] == [(0, ["a", "b"]), (1, ["a", "b"])]
    assert second.ledger.text() == "reused 0 of 1 steps, 1 made"
    third, again = run()
    assert again == found
    assert third.ledger.text() == "reused 1 of 1 steps, 0 made"
    assert len(asked) == 4


def test_what_is_not_stored_goes_when_its_run_does() -> None:
    """The samples of a run that lost an arm lie aside for as long as that one lives."""
    using = Using()
    place = using.enter(scratch())
    assert place.is_dir()
    del using
    gc.collect()
    assert not place.exists()
