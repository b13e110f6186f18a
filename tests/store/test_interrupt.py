"""Ctrl-C on a real terminal: exit 130, the cursor back, the terminal as it was, nobody left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import termios
import time
from pathlib import Path

import pytest
import running

HIDE, SHOW, CTRL_C = b"\x1b[?25l", b"\x1b[?25h", b"\x03"
LIMIT_S = 60.0

pytestmark = pytest.mark.slow


def read(master: int, until: bytes, limit_s: float = LIMIT_S) -> bytes:
    """What the terminal shows until some text has come, or its program is gone."""
    shown, end = b"", time.monotonic() + limit_s
    while until not in shown and time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                piece = os.read(master, 1 << 16)
            except OSError:  # EIO: nobody has the terminal open any more
                break
            shown += piece
            if not piece:
                break
    return shown


@pytest.mark.parametrize("shown", [b"export with", b"try ", b"score "])
def test_ctrl_c_at_the_progress_display(tmp_path: Path, shown: bytes) -> None:
    """While a child runs under the live table: what it says is how to go on, and that is all."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    before = termios.tcgetattr(slave)
    run = running.Run(
        running.optimize(tmp_path, tmp_path / "work"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        text=False,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        screen = read(master, shown)
        assert shown in screen
        assert HIDE in screen
        os.write(master, CTRL_C)
        end = time.monotonic() + LIMIT_S
        while run.process.poll() is None and time.monotonic() < end:
            screen += read(master, b"\x00never", 0.2)
        screen += read(master, b"\x00never", 0.2)
        assert run.process.returncode == 130
        assert termios.tcgetattr(slave) == before
    finally:
        with contextlib.suppress(ProcessLookupError):
            run.process.kill()
        run.process.wait()
        os.close(slave)
        os.close(master)
    assert screen.count(HIDE) == screen.count(SHOW)
    assert screen.rindex(SHOW) > screen.rindex(HIDE)
    last = screen[screen.rindex(SHOW) :].decode()
    assert "accel: Interrupted. Finished steps are kept: run the same command to go on." in last
    assert b"Traceback" not in screen
    assert run.left() == ()
    assert not list((tmp_path / "work" / "store").glob(".tmp-*"))
    assert not (tmp_path / "release").exists()
