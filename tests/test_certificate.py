"""Grades of a drop, against cases that can be checked by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from accel.certificate import certificate
from accel.intervals import right_or_wrong
from accel.values import Certificate, Score


def _mean(rows: Any) -> float:
    return float(100 * rows.mean())


def _proof(tmp_path: Path, a: Any, b: Any, budget: float, **more: Any) -> Certificate:
    scores = []
    for name, rows in (("a", a), ("b", b)):
        path = tmp_path / f"{name}.npy"
        np.save(path, np.asarray(rows, float))
        scores.append(Score("accuracy", "pt", _mean(np.asarray(rows)), path, **more))
    return certificate(scores[0], scores[1], _mean, budget)


def test_equal_answers_on_many_samples_are_certified(tmp_path: Path) -> None:
    """10,000 equal answers leave a bound far below half a point; 100 do not."""
    many, few = np.ones(10_000), np.ones(100)
    assert _proof(tmp_path, many, many, 0.5).grade == "certified"
    short = _proof(tmp_path, few, few, 0.5)
    assert (short.grade, short.drop) == ("consistent", 0.0)
    assert short.bound > 0.5


def test_a_drop_over_the_budget_is_violated(tmp_path: Path) -> None:
    """Two points lost with half a point allowed; the sign does not depend on the metric's sense."""
    a = np.ones(1000)
    b = a.copy()
    b[:20] = 0
    assert _proof(tmp_path, a, b, 0.5).grade == "violated"
    errors = _proof(tmp_path, 1 - a, 1 - b, 0.5, higher_is_better=False)
    assert errors.grade == "violated"
    assert errors.drop == pytest.approx(2.0)


def test_rows_that_are_not_right_or_wrong_are_bootstrapped(tmp_path: Path) -> None:
    """A constant shift has an interval of no width."""
    a = np.linspace(0.2, 0.9, 300)
    proof = _proof(tmp_path, a, a - 0.001, 0.5)
    assert proof.method == "paired bootstrap, BCa"
    assert proof.interval == pytest.approx((0.1, 0.1))


def test_what_counts_as_right_or_wrong() -> None:
    """Rows of 0 and 1 whose metric is a multiple of their mean, and nothing else."""
    rows = np.array([0, 1, 1, 1], float)
    assert right_or_wrong(rows, _mean) == pytest.approx(100)
    assert right_or_wrong(rows, lambda r: float(r.max())) is None
    assert right_or_wrong(rows / 2, _mean) is None


def test_how_many_samples_would_certify(tmp_path: Path) -> None:
    """Where the drop is within the budget and the bound is not; none where no number would do."""
    few = np.ones(100)
    short = _proof(tmp_path, few, few, 0.5)
    assert short.needed_samples is not None
    many = np.ones(short.needed_samples)
    assert _proof(tmp_path, many, many, 0.5).bound < 0.7
    worse = few.copy()
    worse[:2] = 0
    assert _proof(tmp_path, few, worse, 0.5).needed_samples is None
    assert _proof(tmp_path, np.ones(10_000), np.ones(10_000), 0.5).needed_samples == 10_000


@pytest.mark.parametrize(
    ("n", "grade"), [(1, "consistent"), (99, "consistent"), (100, "certified")]
)
def test_a_bootstrap_of_few_rows_certifies_nothing(tmp_path: Path, n: int, grade: str) -> None:
    """A draw holds none that was not seen: of one row it is that row, and no bound at all."""
    a = np.linspace(0.2, 0.9, n)
    proof = _proof(tmp_path, a, a - 0.001, 0.5)
    assert proof.grade == grade
    assert ("too few to bootstrap" in proof.note) == (grade == "consistent")
    assert proof.needed_samples == max(n, 100)


def test_on_the_certify_split_later_looks_have_less_of_the_error(tmp_path: Path) -> None:
    """And on the search split all looks pay alike."""
    path, rows = tmp_path / "a.npy", np.ones(1000)
    np.save(path, rows)
    bounds = {}
    for split in ("certify", "search"):
        score = Score("accuracy", "pt", 100.0, path, split=split)  # type: ignore[arg-type]
        bounds[split] = [certificate(score, score, _mean, 0.5, n).bound for n in (1, 2, 3)]
    z2 = [norm.ppf(1 - 0.05 * share) ** 2 for share in (0.8, 0.16, 0.032)]
    assert bounds["certify"] == pytest.approx([100 * z / (1000 + z) for z in z2])
    assert bounds["search"] == sorted(bounds["search"])
    assert bounds["search"][0] < bounds["certify"][0] < bounds["search"][2]


def test_after_four_looks_no_bootstrap_certifies(tmp_path: Path) -> None:
    """A bound would take more draws than anyone waits for: consistent, with the reason."""
    a = np.linspace(0.2, 0.9, 300)
    for name, rows in (("a", a), ("b", a - 0.001)):
        np.save(tmp_path / f"{name}.npy", rows)
    one, two = (
        Score("accuracy", "pt", 100 * _mean(r), tmp_path / f"{n}.npy", split="certify")
        for n, r in (("a", a), ("b", a - 0.001))
    )
    proof = certificate(one, two, _mean, 0.5, 5)
    assert (proof.grade, proof.needed_samples) == ("consistent", None)
    assert "no bootstrap has a bound for the last" in proof.note
