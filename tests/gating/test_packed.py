"""Rows of two releases, taken only where the manifests prove that they are of the same samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel import arrays, release, store
from accel.evidence import Budget, Subject
from accel.gating import drops
from accel.gating import packed as packed_rows
from accel.values import Release

DIGESTS = {"source": "s", "search": "a", "certify": "c"}
Make = Callable[..., Subject]


@pytest.fixture
def holding(packed: Callable[..., Release]) -> Make:
    """Makes a release that holds these rows of its winner, and tells these digests of its data."""

    def make(name: str, rows: Any, proof: dict[str, Any] | None = None, **digests: Any) -> Subject:
        root = packed(name).path
        value = 100 * float(np.mean(rows))
        arrays.save(root / "rows.npz", [{"fast": np.asarray(rows, float)}])
        path = root / release.MANIFEST
        data = json.loads(path.read_text())
        data["facts"] = {"digests": DIGESTS | digests}
        data["certificate"] |= {"baseline": 99.0, "value": value, "drop": 99.0 - value}
        data["certificate"] |= proof or {}
        data["artefacts"]["rows.npz"] = store.digest_file(root / "rows.npz")
        path.write_text(json.dumps(data))
        return Subject(name, root, "")

    return make


def rows(n: int, wrong: int) -> Any:
    found = np.ones(n)
    found[:wrong] = 0
    return found


def test_rows_of_the_same_samples_serve(holding: Make) -> None:
    """The drop between the two winners, with the split that both were certified on."""
    candidate, baseline = holding("new", rows(2000, 60)), holding("old", rows(2000, 10))
    found = packed_rows.rows(candidate, baseline)
    assert not isinstance(found, str), found
    cell = drops.cell(Budget("drop", 1.0, "pt"), found)
    assert (cell.outcome, cell.worse, cell.better) == ("fail", 50, 0)
    assert "certify split as packed in both releases" in cell.reason


def test_a_metric_of_errors_keeps_its_sense(holding: Make) -> None:
    """Where the certificate counted more as worse, so does the gate."""
    proof = {"baseline": 1.0, "drop": 2.0, "value": 3.0}
    candidate = holding("new", rows(2000, 1940), proof)
    baseline = holding("old", rows(2000, 1990), {"baseline": 1.0, "drop": -0.5, "value": 0.5})
    found = packed_rows.rows(candidate, baseline)
    assert not isinstance(found, str), found
    cell = drops.cell(Budget("drop", 1.0, "pt"), found)
    assert (cell.outcome, cell.ratio) == ("fail", pytest.approx(2.5))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"certify": "other"}, "another workload: certify"),
        ({"source": "other"}, "another workload: source"),
        ({"proof": {"split": "search"}}, "other samples"),
        ({"proof": {"metric": "F1"}}, "other samples"),
        ({"proof": {"value": 12.0}}, "not right or wrong"),
        ({"rows": np.linspace(0, 1, 500)}, "not right or wrong"),
        ({"rows": rows(400, 4)}, "other samples"),
        ({"proof": {"method": "paired cluster bootstrap"}}, "clusters"),
    ],
    ids=["samples", "source", "split", "metric", "score", "no answers", "count", "clusters"],
)
def test_other_rows_do_not_serve(holding: Make, changed: dict[str, Any], reason: str) -> None:
    """Of another workload, split, metric or number; or whose metric is not a share of right ones."""
    candidate = holding("new", changed.pop("rows", rows(500, 5)), **changed)
    found = packed_rows.rows(candidate, holding("old", rows(500, 4)))
    assert isinstance(found, str)
    assert reason in found


def test_rows_without_labels_do_not_serve(holding: Make) -> None:
    """A split without samples has no digest: its rows are fidelity, not answers."""
    pair = [holding(name, rows(500, 4), certify=None) for name in ("new", "old")]
    assert "without labels" in str(packed_rows.rows(*pair))


def test_what_was_changed_since_or_is_no_release_does_not_serve(
    holding: Make, tmp_path: Path, packed: Callable[..., Release]
) -> None:
    """A file that is not as packed; a graph by itself; a release that tells nothing of its data."""
    good, changed = holding("new", rows(500, 4)), holding("old", rows(500, 4))
    arrays.save(changed.path / "rows.npz", [{"fast": np.ones(500)}])
    assert "not as it was packed" in str(packed_rows.rows(good, changed))
    bare = Subject("graph", tmp_path / "graph.onnx", "")
    assert "not a release" in str(packed_rows.rows(good, bare))
    silent = Subject("silent", packed("silent").path, "")
    assert "whose samples are known" in str(packed_rows.rows(silent, good))
