"""The stage of certificates: drops on samples that nothing was chosen on.

A finalist that cannot be certified is not timed: a final takes minutes, a score seconds. Nothing is chosen by
it: the first of the final's ranking that holds is the winner, whenever it was looked at.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from accel import arrays
from accel.certificate import LEAST, certificate, level
from accel.constraints import Constraints
from accel.errors import AccelError, ConstraintError
from accel.guard import number
from accel.job import Job
from accel.measure import closeness
from accel.stages import Event, Progress
from accel.steps import evaluate as evaluate_step
from accel.trials import failed, score
from accel.values import Candidate, Certificate, Plan, Score, Split

UNHELD = " split: drop "  # in the reason of what was refused so


def possible(job: Job, constraints: Constraints, yardstick: Plan) -> None:
    """Raise ConstraintError where even answers equal to the reference's could not be certified."""
    if not constraints.certify or constraints.max_drop is None:
        return
    split = _split(job)
    same = score(job, yardstick, split, yardstick)
    budget = constraints.budget(same.value)
    proof = certificate(same, same, _metric(job), budget)
    if proof.grade != "certified":
        why = (
            f"were every answer the reference's own, the 95 % bound of the drop would still be "
            f"{proof.bound:.3g} {proof.unit} ({proof.method})"
        )
        raise ConstraintError(
            f"No candidate can be certified within {budget:g} {proof.unit} on the {proof.samples} samples of the "
            f"{split} split: {why if proof.bound > budget else proof.note}. {_enough(proof)}or leave out "
            f"--certify."
        )


def _enough(proof: Certificate) -> str:
    """What would help. Tango's bound of n answers that never differ is z2 / (n + z2)."""
    from scipy.stats import norm

    if proof.budget <= 0:
        return "Allow more with --max-drop, "
    ratio, z2 = proof.bound / proof.budget, float(norm.ppf(level(proof.split, 1))) ** 2
    samples = max(LEAST, math.ceil(ratio * proof.samples + (ratio - 1) * z2))
    return (
        f"Give {samples} samples or more in samples({proof.split!r}), allow more with --max-drop, "
    )


def held(
    job: Job,
    table: Sequence[Candidate],
    final: Sequence[Candidate],
    constraints: Constraints,
    yardstick: Plan,
    progress: Progress,
) -> tuple[Candidate, ...]:
    """The table with those of the final refused whose drop does not hold, or who break on its samples."""
    rows = {c.name: c for c in table}
    score(job, yardstick, _split(job), yardstick)  # what breaks here is no candidate's fault
    for candidate in final:
        progress(Event("phase", f"certify {candidate.name}"))
        try:
            proof = certify(job, candidate, constraints, yardstick, looks(job, table))
        except AccelError as error:
            rows[candidate.name] = broken = failed(candidate, error)
            progress(Event("candidate", broken.reason, broken))
            continue
        if not holds(proof, constraints):
            rows[candidate.name] = lost = uncertified(candidate, proof)
            progress(Event("candidate", lost.reason, lost))
    return tuple(rows.values())


def holds(proof: Certificate, constraints: Constraints) -> bool:
    """Is the budget kept as surely as was asked?"""
    return proof.grade == "certified" or (proof.grade == "consistent" and not constraints.certify)


def looks(job: Job, table: Sequence[Candidate]) -> int:
    """How many candidates the split has been asked of, with the next one: its bound pays for all.

    Of the search split: all that were scored. Of the certify split: those that it refused, and one."""
    if not job.digests["certify"]:
        return sum(c.score is not None for c in table)
    return 1 + sum(_was_uncertified(c) for c in table)


def uncertified(candidate: Candidate, proof: Certificate) -> Candidate:
    """Refuse a candidate whose drop did not hold on the split of its proof."""
    told = f"{proof.grade} on the {proof.split}{UNHELD}{proof.drop:.2f} {proof.unit}"
    why = f"{told}, 95 % bound {proof.bound:.2f}, allowed {proof.budget:g}"
    return dataclasses.replace(candidate, status="refused", reason=why)


def _was_uncertified(candidate: Candidate) -> bool:
    return candidate.status == "refused" and UNHELD in candidate.reason


def certify(
    job: Job, candidate: Candidate, constraints: Constraints, yardstick: Plan, seen: int
) -> Certificate:
    """Grade a candidate on the certify split; on the search split where there is none."""
    split = _split(job)
    if candidate.plan is None:
        raise AccelError(f"{candidate.name} was certified before it was built.")
    baseline = score(job, yardstick, split, yardstick)
    found = score(job, candidate.plan, split, yardstick)
    budget = constraints.budget(baseline.value)
    proof = certificate(baseline, found, _metric(job), budget, seen, alike(baseline, found))
    return _fitted(proof) if split == "search" and candidate.recipe_options.get("float") else proof


def _fitted(proof: Certificate) -> Certificate:
    """Of a candidate whose parts were chosen by these very samples, one by one: no count of looks pays
    for that."""
    told = "its float parts were chosen on these samples: certified needs samples('certify')"
    grade: Literal["consistent", "violated"] = (
        "violated" if proof.grade == "violated" else "consistent"
    )
    return dataclasses.replace(proof, grade=grade, note="; ".join(filter(None, (proof.note, told))))


def alike(baseline: Score, found: Score) -> tuple[str, float] | None:
    """How near the outputs are that two scores were computed from: by what, in points of a hundred.
    None where they have other shapes, as of boxes that were found."""
    want, got = (arrays.load(s.rows.with_name("outputs.npz")) for s in (baseline, found))
    if any(w[k].shape != g[k].shape for w, g in zip(want, got, strict=True) for k in w):
        return None
    name, rows = closeness.fidelity(want, got)
    return name, evaluate_step.fidelity_metric(rows)


def _split(job: Job) -> Split:
    return "certify" if job.digests["certify"] else "search"


def _metric(job: Job) -> Callable[[Any], float]:
    """A draw of samples may be one that the user's metric cannot take, all of one class, say: NaN."""
    own = job.workload.metric
    return (
        evaluate_step.fidelity_metric
        if own is None
        else lambda rows: number("metric()", lambda: own(rows))
    )
