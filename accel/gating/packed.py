"""Rows that two releases hold already: a drop without running anything, where they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import arrays, intervals, release, store
from accel.evidence import Subject
from accel.gating.drops import Rows
from accel.values import Certificate

ROWS = "rows.npz"
SAME = ("source", "search", "certify")  # digests of the workload's file and of what it yielded


@dataclass(frozen=True)
class Held:
    """A release's winner's rows, its certificate, and the digests of its data."""

    rows: Any
    proof: Certificate
    digests: Mapping[str, Any]


def rows(candidate: Subject, baseline: Subject) -> Rows | str:
    """The winners' rows of two releases, or why they do not serve.

    They do where both hold rows of the same samples by the same workload, as the digests in both
    manifests tell, and the rows are right or wrong: then the metric is known without the workload."""
    a, b = _held(baseline.path), _held(candidate.path)
    if isinstance(a, str) or isinstance(b, str):
        return a if isinstance(a, str) else str(b)
    differing = [name for name in SAME if a.digests.get(name) != b.digests.get(name)]
    if differing:
        return (
            f"the rows of the two releases are of another workload: {', '.join(differing)} differ"
        )
    if (a.proof.metric, a.proof.split, len(a.rows)) != (b.proof.metric, b.proof.split, len(b.rows)):
        return "the rows of the two releases are of other samples"
    if not a.digests.get(a.proof.split):
        return "the releases hold rows without labels"
    if any("cluster" in held.proof.method for held in (a, b)):
        return "the rows in the releases come in clusters, which only the workload knows"
    return _right_or_wrong(a, b)


def _right_or_wrong(a: Held, b: Held) -> Rows | str:
    import numpy as np

    whole = 1.0 if a.proof.unit == "fraction" else 100.0

    def metric(rows: Any) -> float:
        return whole * float(np.mean(rows))

    for held in (a, b):
        known = intervals.right_or_wrong(held.rows, metric) is not None
        if not known or not np.isclose(metric(held.rows), held.proof.value):
            return (
                "the rows in the releases are not right or wrong: their metric needs the workload"
            )
    higher = _higher_is_better(a.proof, b.proof)
    origin = f"{a.proof.split} split as packed in both releases"
    return Rows(a.rows, b.rows, metric, a.proof.metric, a.proof.unit, higher, origin=origin)


def _higher_is_better(*proofs: Certificate) -> bool:
    """By the sign of a drop; where there is none both winners score the same, and it is no matter."""
    told = next((p for p in proofs if p.drop != 0 and p.baseline != p.value), None)
    return told is None or (told.baseline > told.value) == (told.drop > 0)


def _held(root: Path) -> Held | str:
    """What a release tells of its winner's rows, or why it does not."""
    if not release.is_release(root):
        return f"{root.name} is not a release, so that it holds no rows"
    found = release.read(root)
    digests = release.document(root).get("facts", {}).get("digests")
    if found.certificate is None or not isinstance(digests, dict):
        return f"{root.name} holds no rows whose samples are known"
    path = root / ROWS
    if not path.is_file() or store.digest_file(path) != found.files.get(ROWS):
        return f"{path} is not as it was packed"
    arms = next(iter(arrays.load(path)), {})  # arm -> rows
    if found.winner.name not in arms:
        return f"{path} holds no rows of {found.winner.name}"
    return Held(arms[found.winner.name], found.certificate, digests)
