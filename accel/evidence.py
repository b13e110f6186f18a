"""The gate's values: what may get worse and by how much, what was seen, what follows from it.

Every ratio is arm over baseline, in units where more is worse: its logarithm is positive where the
arm is slower, larger or less accurate. Limits and ratios are shares: 0.03 is 3 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from accel.values import Options, Plan, Request

BASELINE, CANDIDATE, SHADOW, REFERENCE = "baseline", "candidate", "shadow", "reference"  # arms
TIMED = ("p50", "p99", "throughput", "cold_start", "peak_memory")  # a ratio an epoch: sign test
EXACT = ("size", "nodes_fallen", "nodes_slipped", "copies", "nodes")  # counted, no statistics
SCORED = ("drop", "flips")  # accuracy: an interval over samples
METRICS = (*TIMED, *EXACT, *SCORED)
Mode = Literal["gate", "watch"]
Outcome = Literal["pass", "fail", "cannot tell", "unfit", "broken", "no baseline"]
EXIT_CODES: Mapping[str, int] = {
    "pass": 0, "fail": 1, "cannot tell": 3, "unfit": 4, "no baseline": 5, "broken": 6,
}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """How much worse than the baseline a candidate may be in one metric."""

    metric: str  # one of METRICS
    limit: float  # a share (0.03) for unit "%", points of the metric for "pt", a count for ""
    unit: Literal["%", "pt", ""] = "%"
    mode: Mode = "gate"  # "watch": reported, decides nothing
    group: str = ""  # of requests; empty: weighted over all of them
    arm: str = BASELINE  # REFERENCE: against the last release, the cumulative budget


@dataclass(frozen=True)
class Rules:
    """How a gate measures and when it decides; declared before the first epoch."""

    max_epochs: int = 40  # of one run; a re-run goes on from there
    max_s: float = 0.0  # wall clock of one run's epochs; 0: no limit
    rounds: int = 10  # or up to eight times as many, where the noise seen asks for it
    block_s: float = 0.03
    warmup_calls: int = 10  # passes over all requests in each epoch, the same for every arm
    # of an arm and an epoch: slow passes get fewer rounds and warm-up passes, and a group whose p99
    # gates gets the calls that it needs where the baseline makes them in that time
    timed_s: float = 1.0
    shadow_every: int = 3  # the baseline again, as an arm, in every n-th epoch; 0: never
    alpha_fail: float = (
        0.01  # of any false FAIL among all gating cells, times and accuracy together
    )
    alpha_pass: float = 0.05  # of a false PASS, a cell
    alpha_unfit: float = 0.001
    seed: int = 0


@dataclass(frozen=True)
class Subject:
    """What is gated, or gated against."""

    name: str
    path: Path
    digest: str  # a release's own (its manifest's), else of the .onnx and how it was built
    plan: Plan | None = None  # None: it could not be read; `trouble` says why
    requests: tuple[Request, ...] = ()
    size_bytes: int = 0
    trouble: str = ""
    artefact: str = ""  # of the bytes that run and how: the same when the same is packed again


@dataclass(frozen=True)
class Epoch:
    """What one epoch of fresh processes says.

    `logs`: arm (never the baseline) -> statistic -> ln(arm / baseline). A statistic is a metric of
    TIMED, or "metric/group". `rounds_s`: arm -> the weighted p50 of each round, in round order;
    `values`: arm -> statistic -> the value itself (seconds, bytes)."""

    number: int
    logs: Mapping[str, Mapping[str, float]]
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rounds_s: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)  # timed calls of each arm
    order: tuple[str, ...] = ()  # in which the arms were started
    seconds: float = 0.0  # wall clock of the epoch
    covariates: Mapping[str, float] = field(default_factory=dict)  # foreign cores, steal, ...
    samples: str = ""  # the .npz with every call, beside the evidence
    samples_digest: str = ""


@dataclass(frozen=True)
class Cell:
    """One budget, what was found of it, and what follows."""

    budget: Budget
    outcome: Outcome
    reason: str = ""  # one line, for people
    label: str = ""  # of a pass: "faster", "equivalent", "slower within budget"
    epochs: int = 0  # n; samples for SCORED
    worse: int = 0  # epochs beyond the budget, h
    better: int = 0  # epochs within it, l
    e_fail: float = 0.0  # the largest e-value so far against "at most the budget"
    e_pass: float = 0.0  # the same against "at least the budget"
    p_fail: float = 1.0  # of what was timed, adjusted for all gating cells
    ratio: float | None = None  # candidate / baseline; for a drop, the drop itself
    low: float | None = None  # 95 % confidence sequence; an interval for SCORED
    high: float | None = None
    sigma: float | None = None  # robust standard deviation of an epoch's ln ratio
    detectable: float | None = None  # what would FAIL in 80 % of runs of max_epochs, as a share
    value: float | None = None  # the candidate's own: seconds, bytes, a count, a score
    baseline: float | None = None  # the baseline's own


@dataclass(frozen=True)
class Fitness:
    """Is the instrument fit? Judged on the baseline against itself, and on order."""

    fit: bool
    reasons: tuple[str, ...] = ()
    shadow_ratio: float | None = None  # baseline again / baseline, p50
    shadow_epochs: int = 0
    e_shadow: float = 0.0
    runs_p: float | None = None
    position: float | None = None  # ln effect of being started second; printed, decides nothing


@dataclass(frozen=True)
class Judgement:
    """What the epochs so far say. `done`: no further epoch can change a gating cell."""

    outcome: Outcome
    cells: tuple[Cell, ...]
    fitness: Fitness
    done: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that a gate says; the files that CI reads are written from it."""

    name: str
    outcome: Outcome
    line: str  # the first line, which a person understands
    judgement: Judgement
    candidate: Subject
    baseline: Subject
    rules: Rules
    reference: Subject | None = None
    epochs: tuple[Epoch, ...] = ()
    new_epochs: int = 0  # of this run; the others were there
    seconds: float = 0.0  # wall clock of this run
    evidence: Path | None = None
    evidence_head: str = ""  # the last hash of the chain
    machine: Options = field(default_factory=dict)
    machine_class: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()  # between the two graphs, for people
    command: str = ""  # that runs this gate again; empty where no command line says it
    notes: tuple[str, ...] = ()
    commit: str = ""  # of the repository it was run in, where it is one
    when: str = ""  # ISO 8601, UTC
