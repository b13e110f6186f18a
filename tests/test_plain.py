"""Text from other people's files on a terminal: it is shown, and does nothing."""

from __future__ import annotations

import pytest

from accel import terminal
from accel.plain import shown
from accel.stages import Event


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J\x07", "\\x9b2J\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("Größe 3 µs — 日本 │", "Größe 3 µs — 日本 │"),
        ("one\n\ttwo", "one\n\ttwo"),
    ],
)
def test_what_steers_is_spelled_out(text: str, seen: str) -> None:
    """Control characters, changes of direction and broken bytes; letters of any script stay."""
    assert shown(text) == seen


def test_the_progress_table_takes_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder may be called [/red]: it is a name, not the end of a colour."""
    with terminal.live() as show:
        show(Event("phase", "pack [/red]\x1b[2J"))
    assert "[/red]\\x1b[2J" in capsys.readouterr().err
