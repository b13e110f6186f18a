"""All families together."""

from __future__ import annotations

from tests.hostile import (
    checkpoints,
    external,
    legal,
    strangers,
    structures,
    tensors,
    texts,
    workloads,
)
from tests.hostile.case import Case

FAMILIES = (strangers, structures, tensors, external, checkpoints, texts, workloads, legal)
CORPUS: tuple[Case, ...] = tuple(case for family in FAMILIES for case in family.cases())
DEFECTS = {case.defect for case in CORPUS if case.verdict != "accept"}
