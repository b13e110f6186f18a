"""A run's ledger: what it reused, what it made, what failed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from accel.errors import CandidateBroken, UsageError
from accel.job import Job, Ledger, prepare, step
from accel.values import Target, Workload

HERE = Target("here", "this machine", ("onnxruntime_cpu",), local=True)


def _job(work: Path) -> Job:
    workload = Workload("w.py", "w", "digest", model=lambda: None)
    return Job(workload, HERE, (), None, {}, {}, "class", work)


def test_a_run_says_what_it_reused(tmp_path: Path) -> None:
    """Steps made earlier count as reused, those made now as made, however often they are read."""
    step(_job(tmp_path), "check", {"k": 1}, int, lambda _: 1)
    job = _job(tmp_path)
    for key in (1, 2, 2):
        step(job, "check", {"k": key}, int, lambda _: 1)
    assert job.ledger.text() == "reused 1 of 2 steps, 1 made"


def test_a_failed_step_is_counted_and_not_kept(tmp_path: Path) -> None:
    """A failure is no finished step; the copies that a job is made into share the ledger."""
    job = _job(tmp_path)

    def fail(_: Path) -> int:
        raise CandidateBroken("no")

    for _ in range(2):
        with pytest.raises(CandidateBroken):
            step(dataclasses.replace(job, seed=1), "check", {"k": 1}, int, fail)
    assert job.ledger.text() == "reused 0 of 0 steps, 0 made, 2 tried and failed"


def test_a_damaged_step_is_told(tmp_path: Path) -> None:
    """Which one, what was wrong with it, and where it lies."""
    for _ in range(2):
        job = _job(tmp_path)
        step(job, "check", {"k": 1}, int, lambda _: 1)
        [folder] = (tmp_path / "store").glob("check-*[0-9a-f]")
        (folder / "record.json").write_text("{")
    step(job := _job(tmp_path), "check", {"k": 1}, int, lambda _: 1)
    told = job.ledger.text()
    assert told.startswith("reused 0 of 1 steps, 1 made; made again, since the finished one was ")
    assert f"damaged: {folder.name} (" in told
    assert told.endswith(str(tmp_path / "store" / "quarantine"))


def test_runs_do_not_share_a_ledger(tmp_path: Path) -> None:
    """Each job begins with an empty one."""
    step(_job(tmp_path), "check", {"k": 1}, int, lambda _: 1)
    assert _job(tmp_path).ledger.text() == Ledger().text() == "reused 0 of 0 steps, 0 made"


def test_one_epoch_is_refused() -> None:
    """It could not tell what another one would differ by; nothing is read before."""
    with pytest.raises(UsageError, match="epochs must be at least 2, not 1"):
        prepare("nothing.py", HERE, None, Path("nowhere"), epochs=1)
