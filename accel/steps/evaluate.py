"""Score a plan on labelled samples, or, without labels, on its closeness to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accel import arrays
from accel import workload as workloads
from accel.errors import CandidateBroken, UsageError
from accel.guard import guarded
from accel.measure import closeness
from accel.measure.closeness import fidelity_metric
from accel.measure.outputs import outputs
from accel.values import Feed, Plan, Score, Split, Workload

__all__ = ["evaluate", "fidelity_metric", "outputs"]


def evaluate(
    plan: Plan,
    workload: Workload,
    split: Split,
    out: str | Path,
    *,
    reference: str | Path | None = None,
    feeds: Sequence[Feed] | None = None,
    **where: Any,
) -> Score:
    """The workload's metric over its labelled samples; every row is kept in out/"rows.npy".

    Without labels, closeness to `reference` (the .npz that `outputs` wrote for the fp32 baseline on
    the same `feeds`) stands in and `fidelity` is set; `feeds` default to the workload's requests.
    `where`: the log and the target of `outputs`.
    Raises UsageError where neither is there, CandidateBroken when the plan does not run, the
    metric comes out NaN, or an output has another shape than the reference's."""
    samples, out = workloads.samples(workload, split), Path(out)
    if samples is None:
        feeds = feeds or default_feeds(workload)
        known = None if reference is None else Path(reference)
        return _fidelity(plan, feeds, known, split, out, where)
    if not samples:
        raise UsageError(f"{workload.source}: samples({split!r}) yields nothing; 1 is the least.")
    flat = [feed for calls, _ in samples for feed in calls]
    answers = iter(arrays.load(outputs(plan, flat, out, **where)))
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


def _fidelity(
    plan: Plan,
    feeds: Sequence[Feed],
    reference: Path | None,
    split: Split,
    out: Path,
    where: Mapping[str, Any],
) -> Score:
    if reference is None or not feeds:
        raise UsageError(
            "There are neither labelled samples nor reference outputs to score against. "
            "Add samples(split), row and metric to the workload, or inputs()."
        )
    want, got = arrays.load(reference), arrays.load(outputs(plan, feeds, out, **where))
    if len(want) != len(got):
        raise UsageError(f"{reference} holds outputs of {len(want)} feeds, not of {len(got)}.")
    if lost := closeness.unpaired(want, got):
        raise CandidateBroken(
            f"{plan.engine}: {', '.join(lost)} has another shape than the reference's, as of boxes that "
            f"were found, so that closeness to it is none. Add samples(split), row and metric to the "
            f"workload: they judge answers of any shape."
        )
    _saved(out / "cosine.npy", closeness.cosines(want, got))
    metric, rows = closeness.fidelity(want, got)
    return Score(
        metric=metric,
        unit="pt",
        value=fidelity_metric(rows),
        rows=_saved(out / "rows.npy", rows),
        split=split,
        fidelity=True,
    )


def _value(workload: Workload, rows: Any, plan: Plan) -> float:
    import numpy as np

    if workload.metric is None:
        raise UsageError(f"{workload.source} has samples but no metric(rows). Add it.")
    metric = workload.metric
    value = guarded("metric()", lambda: float(metric(rows)))
    if not np.isfinite(value):
        raise CandidateBroken(f"{plan.engine}: {workload.metric_name} came out as {value}.")
    return value


def _clusters(workload: Workload, split: Split, count: int, out: Path) -> Path | None:
    ids = workloads.clusters(workload, split, count)
    return None if ids is None else _saved(out / "clusters.npy", ids)


def _saved(path: Path, rows: Any) -> Path:
    import numpy as np

    np.save(path, np.asarray(rows), allow_pickle=False)
    return path
