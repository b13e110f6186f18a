"""Scores without labels, where outputs have no counterpart in the reference's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accel import arrays, testing
from accel.errors import CandidateBroken
from accel.steps import evaluate
from accel.values import Score, Workload

PROBLEM = Workload("w.py", "w", "digest", model=lambda: None)


def test_outputs_of_another_shape_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three boxes against two are no error of numpy's: the candidate is told with what would judge it."""
    plan = testing.plan(testing.mlp(tmp_path / "mlp.onnx"))
    for name, boxes in (("reference", 3), ("got", 2)):
        feed = {"boxes": np.ones((boxes, 4), np.float32), "count": np.ones(1, np.float32)}
        arrays.save(tmp_path / f"{name}.npz", [feed])
    monkeypatch.setattr(evaluate, "outputs", lambda *_, **__: tmp_path / "got.npz")
    feeds = [{"x": np.ones((1, 8), np.float32)}]

    def score(reference: str) -> Score:
        known = tmp_path / reference
        return evaluate.evaluate(plan, PROBLEM, "search", tmp_path, reference=known, feeds=feeds)

    with pytest.raises(CandidateBroken, match=r"cpu: boxes has another shape .* samples\(split\)"):
        score("reference.npz")
    assert score("got.npz").value == pytest.approx(100)
