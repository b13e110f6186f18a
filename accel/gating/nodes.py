"""Which nodes are slower than in the baseline: for people, once a gate has failed. Decides nothing."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from accel import arrays
from accel.errors import AccelError
from accel.evidence import Subject
from accel.measure import child

TOP = 5
ENGINE = "onnxruntime_cpu"  # a GPU's kernels run on after the profiler has stopped its clock
LIMIT_S = 300.0


def slower(candidate: Subject, baseline: Subject, log: Path) -> tuple[str, ...]:
    """Five lines or fewer, the node that lost the most time first, and what is gone; or one line that
    says why there are none. Both plans run in fresh processes, at the baseline's requests, under the profiler."""
    plans = (baseline.plan, candidate.plan)
    if any(plan is None or plan.engine != ENGINE for plan in plans):
        return (f"which nodes are slower is told between two plans of {ENGINE} only",)
    try:
        there, here = (_profile(subject, baseline, log) for subject in (baseline, candidate))
    except (AccelError, OSError) as error:  # the verdict stands, explained or not
        return (f"which nodes are slower cannot be told: {error}",)
    return ranked(there, here)


def ranked(there: Mapping[str, float], here: Mapping[str, float]) -> tuple[str, ...]:
    """ "operator name" -> seconds, of the baseline and of the candidate.

    Nodes of one name are compared; those that only one side has, by operator. A last line tells of
    operators that are no longer there."""
    lost = {
        f"{node}: {1e3 * there[node]:.3f} -> {1e3 * here[node]:.3f} ms": here[node] - there[node]
        for node in here
        if node in there
    }
    had, has = _alone(there, here), _alone(here, there)
    for operator, times in has.items():
        before = had.get(operator, [])
        told = (
            f"{operator}, nodes of other names: {len(before)} -> {len(times)}, "
            f"{1e3 * sum(before):.3f} -> {1e3 * sum(times):.3f} ms"
        )
        lost[told] = sum(times) - sum(before)
    first = sorted((text for text in lost if lost[text] > 0), key=lambda text: -lost[text])
    gone = [
        f"{operator} {len(times)} ({1e3 * sum(times):.3f} ms)"
        for operator, times in had.items()
        if operator not in has
    ]
    return (*first[:TOP], *([f"no longer there: {', '.join(gone[:TOP])}"] if gone else []))


def _alone(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, list[float]]:
    """Operator -> seconds of those nodes that only the first has."""
    found: dict[str, list[float]] = defaultdict(list)
    for node in one:
        if node not in other:
            found[node.partition(" ")[0]].append(one[node])
    return found


def _profile(subject: Subject, baseline: Subject, log: Path) -> Mapping[str, float]:
    asked = baseline.requests or subject.requests
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        requests = Path(folder, "requests.npz")
        arrays.save(requests, [r.inputs for r in asked])
        words = {"plan": subject.plan, "requests": requests, "weights": [r.weight for r in asked]}
        called = "accel.engines._ort_profile:profile"
        found: Mapping[str, float] = child.call(called, words, dict, log=log, timeout_s=LIMIT_S)
    return found
