"""Score a plan on labelled samples, or, without labels, on its closeness to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accel import arrays
from accel import workload as workloads
from accel.errors import CandidateBroken, UsageError
from accel.measure.outputs import outputs
from accel.values import Feed, Plan, Score, Split, Workload

__all__ = ["evaluate", "fidelity_metric", "outputs"]
COSINE, AGREEMENT = "cosine similarity to the reference", "top-1 agreement with the reference"
LOGITS = ("logit", "prob", "score", "class")  # an embedding is [N, D] too, but has no top-1


def evaluate(
    plan: Plan,
    workload: Workload,
    split: Split,
    out: Path,
    *,
    reference: Path | None = None,
    feeds: Sequence[Feed] | None = None,
) -> Score:
    """The workload's metric over its labelled samples; every row is kept in out/"rows.npy".

    Without labels, closeness to `reference` (the .npz that `outputs` wrote for the fp32 baseline on
    the same `feeds`) stands in and `fidelity` is set; `feeds` default to the workload's requests.
    Raises UsageError where neither is there, CandidateBroken when the plan does not run or the
    metric comes out NaN."""
    samples = workloads.samples(workload, split)
    if samples is None:
        return _fidelity(plan, feeds or default_feeds(workload), reference, split, out)
    if not samples:
        raise UsageError(f"{workload.source}: samples({split!r}) yields nothing; 1 is the least.")
    flat = [feed for calls, _ in samples for feed in calls]
    answers = iter(arrays.load(outputs(plan, flat, out)))
    per_sample = [tuple(next(answers) for _ in calls) for calls, _ in samples]
    rows = workloads.rows(workload, per_sample, [label for _, label in samples])
    return Score(
        metric=workload.metric_name,
        unit=workload.metric_unit,
        value=_value(workload, rows, plan),
        rows=_saved(out / "rows.npy", rows),
        higher_is_better=workload.higher_is_better,
        clusters=_clusters(workload, split, len(rows), out),
        split=split,
    )


def default_feeds(workload: Workload) -> list[Feed]:
    """What fidelity is measured on when nothing else is named: the requests, else the example."""
    if workload.requests is None and workload.inputs is None:
        return []
    return [request.inputs for request in workloads.requests(workload)]


def fidelity_metric(rows: Any) -> float:
    """Mean of rows [N] in 0..1, in points of a hundred."""
    import numpy as np

    return 100 * float(np.mean(rows))


def _fidelity(
    plan: Plan, feeds: Sequence[Feed], reference: Path | None, split: Split, out: Path
) -> Score:
    if reference is None or not feeds:
        raise UsageError(
            "There are neither labelled samples nor reference outputs to score against. "
            "Add samples(split), row and metric to the workload, or inputs()."
        )
    want, got = arrays.load(reference), arrays.load(outputs(plan, feeds, out))
    if len(want) != len(got):
        raise UsageError(f"{reference} holds outputs of {len(want)} feeds, not of {len(got)}.")
    name = next((n for n, x in want[0].items() if _are_logits(n, x)), None)
    cosines = [_cosine(w, g) for w, g in zip(want, got, strict=True)]
    _saved(out / "cosine.npy", cosines)
    rows = cosines if name is None else _agreement(name, want, got)
    return Score(
        metric=COSINE if name is None else AGREEMENT,
        unit="pt",
        value=fidelity_metric(rows),
        rows=_saved(out / "rows.npy", rows),
        split=split,
        fidelity=True,
    )


def _are_logits(name: str, array: Any) -> bool:
    return array.ndim == 2 and array.dtype.kind == "f" and any(x in name.lower() for x in LOGITS)


def _agreement(name: str, want: Sequence[Feed], got: Sequence[Feed]) -> list[float]:
    """One row per item of each batch: 1 where both put the same class first."""
    return [
        float(same)
        for w, g in zip(want, got, strict=True)
        for same in w[name].argmax(axis=-1) == g[name].argmax(axis=-1)
    ]


def _cosine(want: Feed, got: Feed) -> float:
    """Of all floating outputs of one feed, the lowest; NaN counts as 0."""
    import numpy as np

    found = []
    for name, array in want.items():
        x = np.asarray(array, np.float64).ravel()
        y = np.asarray(got[name], np.float64).ravel()
        norm = float(np.linalg.norm(x) * np.linalg.norm(y))
        same = float(np.array_equal(x, y))
        found.append(float(x @ y) / norm if norm > 0 and np.isfinite(norm) else same)
    return min(1.0, *found) if found else 0.0


def _value(workload: Workload, rows: Any, plan: Plan) -> float:
    import numpy as np

    if workload.metric is None:
        raise UsageError(f"{workload.source} has samples but no metric(rows). Add it.")
    metric = workload.metric
    value = workloads.guarded("metric()", lambda: float(metric(rows)))
    if not np.isfinite(value):
        raise CandidateBroken(f"{plan.engine}: {workload.metric_name} came out as {value}.")
    return value


def _clusters(workload: Workload, split: Split, count: int, out: Path) -> Path | None:
    clusters = workload.clusters
    if clusters is None:
        return None
    ids = workloads.guarded("clusters()", lambda: list(clusters(split)))
    if len(ids) != count:
        raise UsageError(
            f"{workload.source}: clusters({split!r}) gives {len(ids)} ids for {count} samples."
        )
    return _saved(out / "clusters.npy", ids)


def _saved(path: Path, rows: Any) -> Path:
    import numpy as np

    np.save(path, np.asarray(rows), allow_pickle=False)
    return path
