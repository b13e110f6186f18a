"""The first line that a person understands, and the table below it."""

from __future__ import annotations

import dataclasses
import math

import pytest

from accel.evidence import Budget, Cell, Report
from accel.report import gate_line


def _line(report: Report) -> str:
    return gate_line.line(report.name, report.judgement)


def test_a_failure_says_how_much_how_sure_and_how_fit(make) -> None:
    """Difference, interval, budget, epochs, what could be detected, and the A/A arm, on one line."""
    assert _line(make("fail")) == (
        "FAIL minilm p50: 5.2 % slower [3.6, 6.9], budget 3 %, n=14, could detect 4.4 %, "
        "A/A ok (0.1 %)"
    )


def test_the_interval_of_a_faster_candidate_stands_against_the_budget(make) -> None:
    """Positive is worse, whatever the word: the upper end is what the budget bounds."""
    quick = dataclasses.replace(
        make().judgement.cells[0], outcome="pass", ratio=0.952, low=0.931, high=0.969
    )
    assert _line(make("pass", [quick])).startswith("PASS minilm p50: 4.8 % faster [-6.9, -3.1], ")


def test_no_difference_has_no_direction(make) -> None:
    """What rounds to nothing is neither slower nor faster."""
    same = dataclasses.replace(
        make().judgement.cells[0], outcome="pass", ratio=0.9999, low=0.991, high=1.008
    )
    assert "p50: 0.0 % difference [-0.9, 0.8]" in _line(make("pass", [same]))


@pytest.mark.parametrize("outcome", ["cannot tell", "unfit"])
def test_what_would_be_needed_is_on_the_first_line(make, outcome) -> None:
    """Cannot tell and unfit are told by the reason, which says what it would take, and by the A/A."""
    reason = "5.2 % slower; too noisy here: 40 epochs can gate 6.1 %"
    told = dataclasses.replace(make().judgement.cells[0], outcome=outcome, reason=reason)
    judgement = make("cannot tell", [told]).judgement
    found = gate_line.line("minilm", dataclasses.replace(judgement, outcome=outcome))
    assert found == f"{outcome.upper()} minilm p50: {reason}, A/A ok (0.1 %)"


def test_an_unfit_instrument_speaks_before_any_cell(make) -> None:
    """Where the baseline differs from itself, no cell's figure means much."""
    why = "the baseline differs from itself by +2.1 % in p50 over 14 epochs, 0.75 % is allowed"
    assert _line(make("unfit", reasons=(why, "p50: too noisy"))) == f"UNFIT minilm: {why}"


def test_a_cell_without_a_figure_says_why(make) -> None:
    """No number is made up where nothing was measured."""
    unseen = Cell(Budget("p99", 0.1), "cannot tell", "300 calls an epoch are needed, 80 were made")
    found = _line(make("cannot tell", [unseen]))
    assert found == "CANNOT TELL minilm p99: 300 calls an epoch are needed, 80 were made"


@pytest.mark.parametrize("outcome", ["broken", "no baseline"])
def test_without_cells_the_reasons_stand_for_the_whole(make, outcome) -> None:
    """A candidate that does not load has no cell to speak for it."""
    found = _line(make(outcome, [], reasons=("x.onnx is not there. Run: ls",)))
    assert found == f"{outcome.upper()} minilm: x.onnx is not there. Run: ls"


def test_the_cell_farthest_beyond_its_budget_speaks_and_the_others_are_counted(make) -> None:
    """6 % at a budget of 5 % is less bad than 5.2 % at 3 %; watched cells do not speak."""
    p50 = make().judgement.cells[0]
    memory = dataclasses.replace(p50, budget=Budget("peak_memory", 0.05), ratio=1.06)
    watched = dataclasses.replace(p50, budget=Budget("p99", 0.01, mode="watch"), ratio=9.0)
    good = dataclasses.replace(p50, budget=Budget("size", 0.05), outcome="pass")
    found = _line(make("fail", [memory, watched, good, p50]))
    assert found.startswith("FAIL minilm p50: 5.2 % slower")
    assert found.endswith("(and 1 more of 3 cells)")


def test_counts_drops_and_flips_are_told_in_their_own_units(make) -> None:
    """New fallback nodes are a count, a drop is in points, flips are a share of samples."""
    copies = Cell(Budget("copies", 0, ""), "fail", value=3, baseline=1)
    assert "copies: 2 more (1 -> 3), budget 0" in _line(make("fail", [copies]))
    drop = Cell(Budget("drop", 0.5, "pt"), "fail", epochs=2000, ratio=0.81, low=0.6, high=1.02)
    assert "drop: 0.81 pt worse [0.60, 1.02], budget 0.5 pt, 2000 samples" in _line(
        make("fail", [drop])
    )
    flips = Cell(Budget("flips", 0.01), "fail", epochs=500, ratio=0.021, low=0.012, high=0.034)
    assert "flips: 2.10 % flipped [1.20, 3.40], budget 1 %" in _line(make("fail", [flips]))
    size = Cell(Budget("size", 0.05), "fail", value=33e6, baseline=30e6)
    assert "size: 10.0 % larger, budget 5 %" in _line(make("fail", [size]))


def test_an_interval_without_an_end_is_open(make) -> None:
    """Few epochs carry no limit on one side."""
    wide = dataclasses.replace(make().judgement.cells[0], low=-math.inf, high=1.1)
    assert "5.2 % slower [-, 10.0]" in _line(make("fail", [wide]))


def test_the_terminal_has_every_cell_the_changes_and_the_command(make) -> None:
    """First line first; the last one runs the gate again."""
    p50 = make().judgement.cells[0]
    memory = Cell(
        Budget("peak_memory", 0.05), "pass", "", "equivalent", 14, value=2e8, baseline=2e8
    )
    report = make("fail", [p50, memory])
    found = gate_line.lines(report)
    assert found[0] == report.line
    assert found[2].split()[:3] == ["cell", "outcome", "seen"]
    assert any(line.startswith("p50 ") and "11.400 ms" in line for line in found)
    assert any(line.startswith("peak_memory") and "200.0 MB" in line for line in found)
    assert "- MatMul 36 -> 37" in found
    assert found[-1] == "again: accel gate new --baseline old"


def test_a_reason_is_told_once(make) -> None:
    """The whole repeats what its cells say: a reader sees it under the cell alone."""
    cells = make().judgement.cells
    report = make("fail", cells, reasons=(f"p50: {cells[0].reason}", "the clock stood still"))
    found = gate_line.lines(report)
    assert sum(cells[0].reason in line for line in found) == 1
    assert "- the clock stood still" in found


def test_no_name_can_command_a_terminal_or_a_runner(any_report) -> None:
    """No line holds control characters or begins as a workflow command does."""
    found = gate_line.lines(any_report)
    assert all(line.isprintable() or "🚀" in line for line in found)
    assert not any(line.lstrip().startswith("::") or "##[" in line for line in found)
    assert not any(c in line for line in found for c in "\x1b\r\n\x00")
    "\n".join(found).encode()
