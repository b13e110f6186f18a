"""summary.md: what a reviewer reads, within what GitHub takes."""

from __future__ import annotations

import re

import pytest

from accel.report import gate_summary


def test_the_first_line_leads_and_every_cell_is_a_row(make) -> None:
    """Heading, command, cells, changes, facts and epochs."""
    found = gate_summary.text(make())
    assert found.startswith("## FAIL minilm p50: 5.2 % slower")
    assert "```sh\naccel gate new --baseline old\n```" in found
    assert "| p50 | fail | 5.2 % slower [3.6, 6.9] | 3 % | 14 | 11.400 ms | 12.000 ms |" in found
    assert "MatMul 36 -&gt; 37" in found
    assert found.count("\n| ") > 14 + 10


@pytest.mark.parametrize("limit", [0, 50, 200, 1000, 5000])
def test_it_never_grows_beyond_the_limit_and_says_what_it_left_out(many, limit) -> None:
    """The last lines go; a reader is told how many and where they are."""
    whole, found = gate_summary.text(many), gate_summary.text(many, limit)
    assert len(found.encode()) <= limit
    if limit < 200:
        assert found == ""
    else:
        left = int(re.search(r"^(\d+) lines were left out here", found, re.MULTILINE).group(1))
        kept = found.count("\n") - 2  # an empty line, and the note
        assert left + kept == whole.count("\n")
        assert "verdict.json has all of it" in found


def test_a_huge_report_fits_a_step_summary(make) -> None:
    """30,000 epochs are more than GitHub's 1 MiB."""
    found = gate_summary.text(make(n=30_000))
    assert len(found.encode()) <= gate_summary.LIMIT_BYTES < 2**20
    assert "lines were left out here" in found


def test_names_show_and_do_not_act(hostile) -> None:
    """No tag, no link, no code span, no mention, no further line of a table."""
    found = gate_summary.text(hostile)
    outside = re.sub(r"^(`{3,})sh\n.*\n\1$", "", found, flags=re.MULTILINE)
    assert "<" not in outside
    assert not re.search(r"(?<!\\)([`*_@]|\]\()", outside)
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert widths <= {9, 3, 5}  # cells, facts, epochs
    assert "\x1b" not in found
    assert "\r" not in found


def test_a_command_cannot_leave_its_fence(make) -> None:
    """The fence is longer than any run of backticks in the command."""
    found = gate_summary.text(make(command="accel gate ````x````"))
    assert "`````sh\naccel gate ````x````\n`````\n" in found


def test_without_cells_the_reason_is_there(nothing) -> None:
    """A broken candidate has a summary, too."""
    found = gate_summary.text(nothing)
    assert found.startswith("## BROKEN minilm: model.onnx is not readable")
    assert "### Epochs" not in found
