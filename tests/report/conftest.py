"""Reports of gates that never ran: every outcome, hostile names, and none of the figures real."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from accel.evidence import (
    Budget,
    Cell,
    Epoch,
    Fitness,
    Judgement,
    Outcome,
    Report,
    Rules,
    Subject,
)
from accel.report import gate_line
from accel.values import Model, Plan

HOSTILE = "a\"b'c`d\n::error::x\r\n%0A##[error] | <script>alert(1)</script> [x](y) \x1b[31m\x00 \ud800 🚀,file=x.py,line=1 \\n"
REASON = (
    "5.2 % slower [3.6, 6.9]: 12 ms against 11.4 ms; a budget of 3 % is broken in 14 of 14 epochs"
)
MAKE = Callable[..., Report]


def cell(**changes: object) -> Cell:
    """A p50 that failed: 5.2 % slower at a budget of 3 %."""
    budget = Budget("p50", 0.03)
    found = Cell(
        budget, "fail", REASON, "", 14, 14, 0, 2184.4, 0.1, 0.0005,
        1.052, 1.036, 1.069, 0.016, 0.044, 0.0120, 0.0114,
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def epochs(n: int) -> tuple[Epoch, ...]:
    """Of three arms; the candidate takes 5 % longer."""
    arms = {"baseline": 1.0, "candidate": 1.05, "shadow": 1.001}
    return tuple(
        Epoch(
            i,
            {a: {"p50": math.log(x) + 1e-3 * (i % 3)} for a, x in arms.items() if a != "baseline"},
            {a: {"p50": 0.0114 * x * (1 + 1e-3 * (i % 5))} for a, x in arms.items()},
            {a: (0.0114 * x, 0.0115 * x) for a, x in arms.items()},
            dict.fromkeys(arms, 80),
            tuple(arms),
            5.0,
            {"steal": 0.01},
            f"epoch-{i}.npz",
            "ab" * 32,
        )
        for i in range(n)
    )


def subject(name: str, digest: str) -> Subject:
    """A plan of one engine, of a file that is nowhere."""
    model = Model(Path("/gone/model.onnx"), digest, (), ())
    plan = Plan("onnxruntime_cpu", model, model.path, {"threads": 2}, {}, {"onnxruntime": "1.32.0"})
    return Subject(name, model.path, digest, plan, (), 23_000_000)


@pytest.fixture
def make() -> MAKE:
    """A report of an outcome, with the cells that are given."""

    def report(
        outcome: Outcome = "fail",
        cells: Sequence[Cell] | None = None,
        name: str = "minilm",
        n: int = 14,
        reasons: tuple[str, ...] = (),
        **changes: object,
    ) -> Report:
        fitness = Fitness(outcome != "unfit", (), 1.001, n, 0.4, 0.7, 0.002)
        seen = (cell(outcome=outcome),) if cells is None else tuple(cells)
        judgement = Judgement(outcome, seen, fitness, True, reasons)
        found = Report(
            name, outcome, gate_line.line(name, judgement), judgement,
            subject("new", "c" * 64), subject("old", "b" * 64), Rules(), epochs=epochs(n),
            new_epochs=n, seconds=70.0, evidence=Path(".accel/gate/minilm"),
            evidence_head="e" * 64, machine={"cpu_name": "a cpu", "cores": 2, "isa": ["avx2"]},
            machine_class="0123456789ab", versions={"accel": "0.1.0", "onnxruntime": "1.32.0"},
            changes=("MatMul 36 -> 37",), command="accel gate new --baseline old",
            notes=("2 cores",), commit="f" * 40, when="2026-11-26T07:00:00Z",
        )  # fmt: skip
        return dataclasses.replace(found, **changes)

    return report


@pytest.fixture
def hostile(make: MAKE) -> Report:
    """Names and reasons that try to break out of every format, figures that are none."""
    bad = Budget("p99", 0.1, "%", "watch", HOSTILE)
    nowhere = {"ratio": math.nan, "low": -math.inf, "high": math.inf, "e_fail": math.inf}
    cells = [
        cell(reason=HOSTILE),
        cell(budget=bad, **nowhere, value=math.nan, baseline=math.inf),
        cell(budget=bad, detectable=math.nan, sigma=math.nan),  # the same name again
    ]
    texts = {"changes": (HOSTILE,), "notes": (HOSTILE,), "command": HOSTILE, "commit": HOSTILE}
    return make(
        "fail", cells, HOSTILE, reasons=(HOSTILE,), **texts, machine_class=HOSTILE, when=HOSTILE,
        candidate=Subject(HOSTILE, Path(HOSTILE), HOSTILE, trouble=HOSTILE),
    )  # fmt: skip


@pytest.fixture
def many(make: MAKE) -> Report:
    """200 cells of one metric, a group each."""
    cells = [cell(budget=Budget("p50", 0.03, group=f"group {i}")) for i in range(200)]
    return make("fail", cells)


@pytest.fixture
def nothing(make: MAKE) -> Report:
    """A candidate that could not be read: no cells, no epochs."""
    return make("broken", [], n=0, reasons=("model.onnx is not readable",))


@pytest.fixture(params=["hostile", "many", "nothing", "plain"])
def any_report(request: pytest.FixtureRequest, make: MAKE) -> Report:
    """Each of them in turn."""
    return make() if request.param == "plain" else request.getfixturevalue(request.param)
