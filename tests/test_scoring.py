"""Who is scored: the quick ones first, and nobody whom no final would take."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from accel import deciding, pipeline, scoring, trials
from accel.constraints import Constraints
from accel.errors import ConstraintError
from accel.job import Job
from accel.values import Candidate, Model, Plan, Score

MODEL = Model(Path("m.onnx"), "d", (), ())
JOB, YARDSTICK = cast("Job", None), cast("Plan", None)
POINT = Constraints(max_drop=1.0)


def built(name: str, screen_s: float, portable: bool = True) -> Candidate:
    plan = Plan("openvino", MODEL, Path(name), portable=portable)
    return Candidate(name, "onnx", "fp32", "openvino", status="built", plan=plan, screen_s=screen_s)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names, in order; what is called "bad" loses five points, all else nothing."""
    names: list[str] = []
    fp32 = Score("accuracy", "pt", 80.0, Path("rows.npy"))

    def judged(_: Job, candidate: Candidate, *__: Any) -> Candidate:
        names.append(candidate.name)
        drop = 5.0 if candidate.name.startswith("bad") else 0.0
        return dataclasses.replace(candidate, score=fp32, drop=drop)

    monkeypatch.setattr(trials, "score", lambda *_: fp32)
    monkeypatch.setattr(trials, "scored", judged)
    return names


def run(table: list[Candidate], constraints: Constraints = POINT) -> dict[str, Candidate]:
    found = scoring.score(JOB, table, constraints, YARDSTICK, lambda _: None)
    assert [c.name for c in found] == [c.name for c in table]
    return {c.name: c for c in found}


def test_quick_ones_come_first_and_slow_ones_are_spared(scored: list[str]) -> None:
    """What took twice as long as one that keeps the budget cannot win, and its row says so."""
    found = run([built("slow", 2.0), built("quick", 1.0), built("near", 1.5)])
    assert scored == ["quick", "near"]
    assert found["slow"].status == "pruned"
    assert found["slow"].reason == "not scored: 2.0x the quickest one's time in screening"


def test_what_loses_too_much_spares_nobody(scored: list[str]) -> None:
    """Nor does what breaks another demand."""
    run([built("bad", 1.0), built("slow", 2.0), built("slower", 3.0)])
    assert scored == ["bad", "slow", "slower"]
    scored.clear()
    large = dataclasses.replace(built("large", 1.0), peak_memory_bytes=900)
    run([large, built("slow", 2.0)], dataclasses.replace(POINT, max_memory_bytes=500))
    assert scored == ["large", "slow"]


def test_the_quickest_portable_one_is_scored_however_slow(scored: list[str]) -> None:
    """A release holds a graph that every runtime can read, where there is one."""
    run([built("own", 1.0, portable=False), built("plain", 2.5), built("plainer", 2.9)])
    assert scored == ["own", "plain"]


def test_where_size_counts_everything_is_scored(scored: list[str]) -> None:
    """Time says nothing of it."""
    run([built("slow", 2.9), built("quick", 1.0)], dataclasses.replace(POINT, objective="size"))
    assert scored == ["quick", "slow"]


def test_when_no_quick_one_is_certified_the_rest_is_scored(
    scored: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The search does not end before everything was looked at."""
    asked: list[dict[str, str]] = []

    def decide(_: Job, table: Any, *__: Any) -> Any:
        asked.append({c.name: c.status for c in table})
        raise ConstraintError("nobody is left")

    monkeypatch.setattr(deciding, "decide", decide)
    table = tuple(run([built("quick", 1.0), built("slow", 2.0)]).values())
    job = cast("Job", SimpleNamespace())
    with pytest.raises(ConstraintError):
        pipeline._finished(job, table, POINT, YARDSTICK, "again", tmp_path, lambda _: None)
    assert asked == [{"quick": "built", "slow": "pruned"}, {"quick": "built", "slow": "built"}]
    assert scored[-1] == "slow"
