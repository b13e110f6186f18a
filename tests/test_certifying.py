"""What is certified before it is timed, and what is told where nothing can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from accel import certifying, deciding, finals
from accel.constraints import Constraints
from accel.errors import CandidateBroken, ConstraintError, Unmeasured
from accel.job import Job
from accel.values import Candidate, Measurement, Model, Plan, Score

MODEL = Model(Path("m.onnx"), "d", (), ())
SAMPLES = 20_000
HALF = Constraints(max_drop=0.5, certify=True)
YARDSTICK = Plan("reference", MODEL, Path("reference"))


def _accuracy(rows: Any) -> float:
    return float(100 * rows.mean())


def built(name: str, screen_s: float) -> Candidate:
    """Its answers are wrong in as many points as its name ends with."""
    plan = Plan("openvino", MODEL, Path(name))
    row = Candidate(name, "onnx", "fp32", "openvino", status="built", plan=plan, screen_s=screen_s)
    return dataclasses.replace(row, drop=0.0, score=Score("accuracy", "pt", 100.0, Path("r.npy")))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A fake job: scores are made up, their certificates are real."""

    def score(fake: Any, plan: Plan, split: Any, _: Plan) -> Score:
        folder = tmp_path / plan.path.name / split
        folder.mkdir(parents=True, exist_ok=True)
        points = plan.path.name.partition("-")[2]
        rows = np.ones(fake.samples)
        rows[: round(fake.samples * float(points or 0) / 100)] = 0
        np.save(folder / "rows.npy", rows)
        return Score("accuracy", "pt", _accuracy(rows), folder / "rows.npy", split=split)

    monkeypatch.setattr(certifying, "score", score)
    monkeypatch.setattr(certifying, "alike", lambda *_: None)
    digests: Mapping[str, str] = {"certify": "yes"}
    fake = SimpleNamespace(
        digests=digests, workload=SimpleNamespace(metric=_accuracy), samples=SAMPLES
    )
    return cast("Job", fake)


def decided(
    job: Job,
    table: list[Candidate],
    monkeypatch: pytest.MonkeyPatch,
    constraints: Constraints = HALF,
    baselines: tuple[Candidate, ...] = (),
) -> tuple[Any, list[list[str]]]:
    """The decision with a fake clock, which gives everybody the time that it screened with."""
    timed: list[list[str]] = []

    def measured(_: Job, final: Any, beside: Any, *__: Any) -> dict[str, Candidate]:
        timed.append([c.name for c in final])
        run = Measurement("a", Path("s"), ("g",), (1.0,), 0, 0, 100, 1, 0)
        return {
            c.name: dataclasses.replace(
                c, status="measured", objective_s=c.screen_s, measurement=run
            )
            for c in (*final, *beside)
        }

    monkeypatch.setattr(finals, "measured", measured)
    monkeypatch.setattr(finals, "baselines", lambda *_: baselines)
    monkeypatch.setattr(finals, "tie", lambda *_: lambda *_: False)
    monkeypatch.setattr(deciding, "heat", lambda _, table, *__: tuple(table))
    return deciding.decide(job, table, constraints, YARDSTICK, lambda _: None), timed


def test_what_cannot_be_certified_is_never_timed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """One final is timed, of those that hold; the quicker ones that do not have their reason."""
    table = [built("a-5", 1.0), built("b-2", 1.01), built("c-0.1", 1.02), built("d-0", 1.03)]
    (rows, _, winner, proof), timed = decided(job, table, monkeypatch)
    assert timed == [["c-0.1", "d-0"]]
    assert (winner.name, proof.grade) == ("c-0.1", "certified")
    refused = {c.name: c.reason for c in rows if c.status == "refused"}
    assert set(refused) == {"a-5", "b-2"}
    assert refused["a-5"].startswith("violated on the certify split: drop 5.00 pt")


def test_who_breaks_on_the_certify_split_is_lost_alone(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric that is no number there costs the candidate, not the run; it spends no look."""
    whole = certifying.score

    def score(fake: Any, plan: Plan, *rest: Any) -> Score:
        if plan.path.name == "a-0":
            raise CandidateBroken("metric() is nan")
        return whole(fake, plan, *rest)

    monkeypatch.setattr(certifying, "score", score)
    table = [built("a-0", 1.0), built("b-0.1", 1.01)]
    (rows, _, winner, proof), timed = decided(job, table, monkeypatch)
    assert (winner.name, proof.grade, proof.note, timed) == ("b-0.1", "certified", "", [["b-0.1"]])
    assert [(c.status, c.reason) for c in rows if c.name == "a-0"] == [
        ("failed", "metric() is nan")
    ]


def test_a_yardstick_that_breaks_there_ends_the_run(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no candidate's fault."""

    def score(*_: Any) -> Score:
        raise CandidateBroken("metric() is nan")

    monkeypatch.setattr(certifying, "score", score)
    with pytest.raises(CandidateBroken):
        decided(job, [built("a-0", 1.0)], monkeypatch)


def test_where_nobody_holds_nothing_is_timed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search ends with the nearest candidates and not after a final for each."""
    with pytest.raises(ConstraintError, match=r"b-2: violated on the certify split"):
        decided(job, [built("a-5", 1.0), built("b-2", 1.01)], monkeypatch)


def test_the_bound_pays_for_every_candidate_that_the_split_refused(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third that is looked at has the bound of three looks, and the note says so."""
    alone, _ = decided(job, [built("c-0.1", 1.0)], monkeypatch)
    after, _ = decided(
        job, [built("a-5", 1.0), built("b-2", 1.0), built("c-0.1", 1.0)], monkeypatch
    )
    assert alone[3].note == ""
    assert after[3].note == ("3 candidates were looked at on the certify split: bound widened")
    assert after[3].bound > alone[3].bound


def test_a_refused_baseline_is_timed_and_stays_refused(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its look is paid for, and no table calls it measured."""
    table = [built("a-5", 1.0), built("c-0.1", 1.0)]
    (rows, _, winner, proof), _ = decided(job, table, monkeypatch, baselines=(table[0],))
    [row] = [c for c in rows if c.name == "a-5"]
    assert (winner.name, row.status) == ("c-0.1", "refused")
    assert row.measurement is not None
    assert proof.note.startswith("2 candidates were looked at")


def test_a_speed_up_over_what_has_no_time_ends_the_run_at_once(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other final would tell: the others are not timed."""
    table = [built(f"c{i}-0", 1.0 + i / 100) for i in range(6)]
    wanted = Constraints(max_drop=0.5, min_speedup=2.0)
    with pytest.raises(Unmeasured, match="was not timed: 2x cannot be told"):
        decided(job, table, monkeypatch, wanted)


def test_too_few_samples_are_told_before_anything_is_tried(job: Job) -> None:
    """300 equal answers leave a bound of 0.9 points: half a point needs about twice as many."""
    few = cast("Any", job)
    few.samples = 300
    with pytest.raises(ConstraintError) as caught:
        certifying.possible(job, HALF, YARDSTICK)
    said = str(caught.value)
    assert "within 0.5 pt on the 300 samples of the certify split" in said
    needed = int(said.partition("Give ")[2].partition(" ")[0])
    few.samples = needed
    certifying.possible(job, HALF, YARDSTICK)
    few.samples = needed - 2
    with pytest.raises(ConstraintError, match="or leave out --certify"):
        certifying.possible(job, HALF, YARDSTICK)


def test_no_budget_and_no_demand_need_no_samples(job: Job) -> None:
    """Without --certify a drop need only be consistent; a budget of nothing has no number that would do."""
    cast("Any", job).samples = 10
    certifying.possible(job, Constraints(max_drop=0.5), YARDSTICK)
    certifying.possible(job, Constraints(certify=True), YARDSTICK)
    with pytest.raises(ConstraintError, match=r"\. Allow more with --max-drop, or leave out"):
        certifying.possible(job, Constraints(max_drop=0.0, certify=True), YARDSTICK)


def test_a_metric_that_a_draw_breaks_still_has_a_bound(job: Job) -> None:
    """Of rows that are all of one class there is no precision: such draws are left out, not a traceback."""

    def precision(rows: Any) -> float:
        found = int((rows[:, 0] > 0).sum())
        return 100 * int((rows.min(axis=1) > 0).sum()) / found

    job.workload.metric = precision  # type: ignore[misc]
    metric = certifying._metric(job)
    assert metric(np.ones((4, 2))) == 100
    assert np.isnan(metric(np.zeros((4, 2))))


def test_what_was_fitted_to_the_search_split_is_not_certified_on_it(job: Job) -> None:
    """Float parts that were chosen by its worst samples, one by one."""
    fitted = dataclasses.replace(built("int8-0", 1.0), recipe_options={"float": ("a",)})
    job.digests = {"certify": ""}  # type: ignore[misc]
    plain, other = (
        certifying.certify(job, c, HALF, YARDSTICK, 1) for c in (built("int8-0", 1.0), fitted)
    )
    assert (plain.grade, other.grade) == ("certified", "consistent")
    assert "were chosen on these samples" in other.note
