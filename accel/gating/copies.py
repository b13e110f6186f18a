"""A subject's files at a new place: what an epoch re-rolls."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

from accel import graph
from accel.evidence import Subject
from accel.measure import limits
from accel.values import Model, Plan

WORKER_BYTES = 250 << 20  # interpreter, runtime and arena of a small model
PREFIX = "copies-"  # of the folder that holds an epoch's
SHARE = 0.8  # of the free memory, that all arms together may take


def copied(subject: Subject, folder: Path, coin: random.Random) -> Plan:
    """The plan, its files below folder/<12 random letters>: names of one length for every arm.

    A graph that the plan does not load, such as the one that an engine was built from, stays."""
    plan = subject.plan
    if plan is None:
        raise ValueError(f"{subject.name} has no plan")
    place = folder / f"{coin.getrandbits(48):012x}"
    place.mkdir()
    if plan.path.is_dir():
        path = Path(shutil.copytree(plan.path, place / "plan"))
    else:
        path = graph.copy(plan.path, place / f"plan{plan.path.suffix}")
    return dataclasses.replace(plan, path=path, model=_model(plan, path))


def _model(plan: Plan, path: Path) -> Model:
    old, root = plan.model.path, plan.path
    if old == root:
        return dataclasses.replace(plan.model, path=path)
    if root.is_dir() and old.is_relative_to(root):
        return dataclasses.replace(plan.model, path=path / old.relative_to(root))
    return plan.model


def sweep(folder: Path) -> None:
    """Remove what an epoch left that was killed; who calls this holds the evidence."""
    for left in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def fit_together(subjects: Iterable[Subject]) -> bool:
    """Whether all arms can be loaded at once: else they run one after another inside an epoch."""
    # weights as read and as the runtime packs them: twice the file
    need = sum(WORKER_BYTES + 2 * subject.size_bytes for subject in subjects)
    return need < SHARE * limits.free_bytes()
