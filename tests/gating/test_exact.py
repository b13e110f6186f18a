"""Counted cells, on made-up placements and on one that ONNX Runtime tells."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from accel import catalog, testing
from accel import target as targets
from accel.evidence import Budget, Subject
from accel.gating import exact
from accel.values import Copied, Model, Placed, Placement, Plan

MODEL = Model(Path("m.onnx"), "d", (), ())
CONVS = Placed("Conv", 36, "GPU", "x", "int8", "GPU", "int8")
ASIDE = Placed("Softmax", 4, "GPU", "x", "float32", "GPU", "float32")
FELL = Placed("Resize", 2, "CPU", "y", "float32", "GPU", "float32", ("r0", "r1"))
SLIPPED = Placed("Conv", 4, "GPU", "x", "float32", "GPU", "int8")


def subject(*placed: Placed, size: int = 1000, engine: str = "e", copies: int = 0) -> Subject:
    copied = (Copied("GPU", "CPU", copies),) if copies else ()
    plan = Plan(engine, MODEL, Path("m.onnx"), placement=Placement(placed, copied))
    return Subject("s", Path("s"), "d", plan, (), size)


def outcome(candidate: Subject, baseline: Subject, budget: Budget) -> str:
    (cell,) = exact.cells(candidate, baseline, (budget,))
    return cell.outcome


@pytest.mark.parametrize(("size", "expected"), [(1000, "pass"), (1050, "pass"), (1051, "fail")])
def test_size_may_grow_by_a_share_and_no_more(size: int, expected: str) -> None:
    """Of 5 %: the byte beyond it fails; so it does where the limit is in bytes."""
    for budget in (Budget("size", 0.05, "%"), Budget("size", 50, "")):
        assert outcome(subject(CONVS, size=size), subject(CONVS), budget) == expected


def test_a_new_fallback_fails_and_is_named() -> None:
    """Two nodes that run on the CPU, the operator, and what nodes compute in now."""
    (cell,) = exact.cells(
        subject(CONVS, ASIDE, FELL), subject(CONVS, ASIDE), (Budget("nodes_fallen", 0, ""),)
    )
    assert (cell.outcome, cell.value, cell.baseline, cell.ratio) == ("fail", 2, 0, None)
    assert cell.reason == ("0 -> 2, budget +0; Resize (GPU -> CPU) +2; float32 4 -> 6")


def test_a_fallback_that_the_baseline_has_too_is_not_new() -> None:
    """The same two nodes, and one fewer, pass."""
    budget = Budget("nodes_fallen", 0, "")
    assert outcome(subject(CONVS, FELL), subject(CONVS, FELL), budget) == "pass"
    fewer = dataclasses.replace(FELL, count=1)
    assert outcome(subject(CONVS, fewer), subject(CONVS, FELL), budget) == "pass"


def test_a_slip_in_precision_fails_with_the_census() -> None:
    """Four convolutions of 36 that compute in float32 now."""
    kept = dataclasses.replace(CONVS, count=32)
    (cell,) = exact.cells(
        subject(kept, SLIPPED, ASIDE), subject(CONVS, ASIDE), (Budget("nodes_slipped", 0, ""),)
    )
    assert cell.outcome == "fail"
    assert "Conv (int8 -> float32) +4" in cell.reason
    assert "int8 36 -> 32, float32 4 -> 8" in cell.reason


def test_copies_and_nodes_are_counted() -> None:
    """Within the limit they pass, beyond it they fail."""
    base, more = subject(CONVS, copies=1), subject(CONVS, ASIDE, copies=3)
    assert outcome(more, base, Budget("copies", 2, "")) == "pass"
    assert outcome(more, base, Budget("copies", 1, "")) == "fail"
    assert outcome(more, base, Budget("nodes", 0.2, "%")) == "pass"
    assert outcome(more, base, Budget("nodes", 3, "")) == "fail"


def test_an_engine_that_does_not_tell_leaves_it_open() -> None:
    """On either side; the reason names the subject and the engine, and size is still known."""
    told, silent = subject(CONVS), subject(CONVS, engine="mute")
    assert silent.plan is not None
    silent = dataclasses.replace(silent, plan=dataclasses.replace(silent.plan, placement=None))
    for pair in ((silent, told), (told, silent)):
        (cell,) = exact.cells(*pair, (Budget("copies", 0, ""),))
        assert (cell.outcome, "mute does not tell" in cell.reason) == ("cannot tell", True)
        assert outcome(*pair, Budget("size", 0, "")) == "pass"
    unread = dataclasses.replace(told, plan=None, trouble="a file differs")
    (cell,) = exact.cells(unread, told, (Budget("nodes", 0, ""),))
    assert (cell.outcome, "a file differs" in cell.reason) == ("cannot tell", True)


def test_what_neither_engine_tells_is_watched_where_nobody_wrote_it() -> None:
    """No epoch would answer it; where one of them tells, or a user wrote it, it gates."""
    told = subject(CONVS)
    assert told.plan is not None
    mute = dataclasses.replace(told, plan=dataclasses.replace(told.plan, placement=None))
    asked = (Budget("size", 0.05), Budget("nodes_fallen", 0, ""), Budget("copies", 0, ""))
    found, (note,) = exact.held(mute, mute, asked, asked[:2])
    assert [b.mode for b in found] == ["gate", "watch", "gate"]
    assert note.startswith("nodes_fallen: only watched")
    assert exact.held(told, mute, asked, asked) == (asked, ())
    assert exact.held(mute, mute, asked, ()) == (asked, ())


def test_the_side_that_is_known_is_told() -> None:
    """Beside the reason, which names what takes the budget away."""
    told = subject(CONVS, copies=2)
    assert told.plan is not None
    mute = dataclasses.replace(told, plan=dataclasses.replace(told.plan, placement=None))
    (cell,) = exact.cells(mute, told, (Budget("copies", 0, ""),))
    assert (cell.value, cell.baseline) == (None, 2)
    assert 'copies = "off"' in cell.reason


def test_two_engines_are_named() -> None:
    """Their counts are compared, and the reader is warned."""
    (cell,) = exact.cells(
        subject(CONVS, engine="one"), subject(CONVS, engine="two"), (Budget("nodes", 0, ""),)
    )
    assert "one against two" in cell.reason


def test_only_exact_budgets_get_a_cell_in_their_order() -> None:
    """Others are for whoever times or scores."""
    budgets = tuple(Budget(m, 0, "") for m in ("p50", "copies", "drop", "size"))
    cells = exact.cells(subject(CONVS), subject(CONVS), budgets)
    assert [cell.budget.metric for cell in cells] == ["copies", "size"]


def test_what_onnx_runtime_tells_is_counted(tmp_path: Path) -> None:
    """A deeper network has more nodes, by just those that were added."""
    found = []
    for layers in (1, 3):
        model = testing.mlp(tmp_path / f"{layers}.onnx", layers=layers)
        out = tmp_path / f"plan-{layers}"
        out.mkdir()
        engine = catalog.load("engines", "onnxruntime_cpu")
        here = dataclasses.replace(targets.load("cpu-local"), threads=1)
        plan = engine.build(model, here, {"threads": 1}, [testing.request(model)], out)
        found.append(Subject(str(layers), model.path, model.digest, plan))
    (cell,) = exact.cells(found[1], found[0], (Budget("nodes", 2, ""),))
    assert (cell.outcome, cell.baseline, cell.value) == ("fail", 3, 7)
