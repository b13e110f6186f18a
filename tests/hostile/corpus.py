"""All families together."""

from __future__ import annotations

from tests.hostile import (
    checkpoints,
    external,
    floods,
    legal,
    strangers,
    structures,
    tensors,
    texts,
    workloads,
)
from tests.hostile.case import Case

FAMILIES = (
    strangers, structures, floods, tensors, external, checkpoints, texts, workloads, legal,
)  # fmt: skip
CORPUS: tuple[Case, ...] = tuple(case for family in FAMILIES for case in family.cases())
DEFECTS = {case.defect for case in CORPUS if case.verdict != "accept"}
