"""Annotations as GitHub's runner reads them."""

from __future__ import annotations

import re

import pytest

from accel.report import annotations

COMMAND = re.compile(r"::(error|warning|notice) title=([^:,]*)::(.*)")
BACK = {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}


def _parsed(command: str) -> tuple[str, str, str]:
    """(kind, title, message), the escapes taken back as the runner does: one pass, whole tokens."""
    found = COMMAND.fullmatch(command)
    assert found, command
    title = re.sub("%0D|%0A|%3A|%2C|%25", lambda m: BACK[m.group()], found.group(2))
    message = re.sub("%0D|%0A|%25", lambda m: BACK[m.group()], found.group(3))
    return found.group(1), title, message


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("fail", "error"),
        ("unfit", "error"),
        ("broken", "error"),
        ("no baseline", "error"),
        ("cannot tell", "warning"),
        ("pass", "notice"),
    ],
)
def test_a_gate_is_one_command_of_its_kind(make, outcome, kind) -> None:
    """First line and command, under the model's name."""
    report = make(outcome)
    assert _parsed(annotations.text(report)) == (
        kind,
        "accel gate minilm",
        f"{report.line}\nagain: {report.command}",
    )


def test_a_hostile_name_stays_inside_its_command(hostile) -> None:
    """One line, and what is read back is what was meant; %0A in a name is not a new line."""
    found = annotations.text(hostile)
    assert "\n" not in found
    kind, title, message = _parsed(found)
    assert kind == "error"
    assert "%0A" in title
    assert "::error::x" in title
    assert message.count("\n") == 1
    assert "##[" not in found


def test_the_eleventh_of_a_kind_is_counted(make) -> None:
    """GitHub shows ten: the tenth names the others, and the worst kind comes first."""
    reports = [make("pass"), *(make("fail", name=f"m{i}") for i in range(12))]
    found = [_parsed(command) for command in annotations.commands(reports)]
    assert [kind for kind, _, _ in found] == ["error"] * 10 + ["notice"]
    assert found[9][2] == "3 more gates, in the summary: m9, m10, m11"


def test_ten_of_a_kind_are_all_shown(make) -> None:
    """None is given up before it must be."""
    found = annotations.commands([make("fail", name=f"m{i}") for i in range(10)])
    assert "m9" in found[9]
