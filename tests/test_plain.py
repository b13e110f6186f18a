"""Text from other people's files on a terminal: it is shown, and does nothing."""

from __future__ import annotations

import pytest

from accel import terminal
from accel.plain import flat, shown
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
        ("::error::x", "\\x3a:error::x"),
        ("one\n \t::error::x", "one\n \t\\x3a:error::x"),
        ("one ##[error]x", "one #\\x23[error]x"),
        ("torch::Tensor ## one", "torch::Tensor ## one"),
    ],
)
def test_what_steers_is_spelled_out(text: str, seen: str) -> None:
    """Control characters, changes of direction, broken bytes, commands to a runner; letters of any script stay."""
    assert shown(text) == seen


def test_a_foreign_error_becomes_one_line() -> None:
    """However it is laid out."""
    assert flat(ValueError("one\r\n\n  ::error::two\x0bthree\x1b[2J")) == (
        "one ::error::two three\\x1b[2J"
    )


def test_the_progress_table_takes_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder may be called [/red]: it is a name, not the end of a colour."""
    with terminal.live() as show:
        show(Event("phase", "pack [/red]\x1b[2J"))
    assert "[/red]\\x1b[2J" in capsys.readouterr().err
