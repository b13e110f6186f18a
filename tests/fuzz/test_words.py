"""Command lines of anything: an answer or one message, never a traceback, never the exit code of a bug."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from hypothesis import given
from hypothesis import strategies as st

from accel.cli import cli
from accel.shell import BUG, run
from tests.fuzz.effort import effort
from tests.fuzz.values import ODD_TEXTS

# these work for seconds whatever they are told; their words are in tests/test_cli*.py
LONG = {"doctor", "kernels build", "kernels check", "kernels bench"}
FILES = {
    "empty.onnx": b"",
    "text.onnx": b"hello",
    "broken.onnx": b"\x08\x08\x12\x04abcd",
    "raises.py": b"1 / 0\n",
    "nothing.py": b"",
    "no-model.py": b"def inputs():\n    return {}\n",
    "list.json": b"[]",
    "bad.toml": b"= 1",
    "empty.npz": b"",
}
# nothing that leads out of the folder: a command may write there
INSIDE = tuple(t for t in ODD_TEXTS[:-1] if "/" not in t)
WORDS = (
    *FILES, *INSIDE, "missing.onnx", "missing.py", "missing", ".", "examples/none.py:thing",
    "cpu-local", "h100", "onnxruntime_cpu", "openvino", "tensorrt", "fp32", "int8_mixed", "latency", "certify",
    "0.5pt", "3%", "5min", "1GB", "1e9GB", "..ms", "p50=3%", "p99@reference/x=1%:watch", "0", "1", "2.5", "-7", "--", "-",
)  # fmt: skip


def commands(group: Any = cli, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that is none of commands."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*way, name))
        elif " ".join((*way, name)) not in LONG:
            yield (*way, name), command


COMMANDS = sorted(commands(), key=lambda found: found[0])


@st.composite
def lines(draw: Callable[[Any], Any]) -> list[str]:
    """A command, arguments and options of its own, and words that are neither."""
    way, command = draw(st.sampled_from(COMMANDS))
    line = list(way)
    word = st.one_of(st.sampled_from(WORDS), st.text(max_size=6).filter(lambda t: "\x00" not in t))
    own = [p for p in command.params if p.name != "debug"]  # it asks for a traceback
    for parameter in draw(st.lists(st.sampled_from(own), max_size=5)):
        if isinstance(parameter, click.Option):
            line.append(draw(st.sampled_from((*parameter.opts, *parameter.secondary_opts))))
        if not getattr(parameter, "is_flag", False) and draw(st.integers(0, 9)):
            line.append(draw(word))
    return line + draw(st.lists(word, max_size=1))


def ended(line: list[str]) -> tuple[int, str, str]:
    """What the console script does with it: exit code, stdout, stderr."""
    out, err, before = io.StringIO(), io.StringIO(), (sys.argv, signal.getsignal(signal.SIGTERM))
    sys.argv, code = ["accel", *line], 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run(cli)
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.argv = before[0]
        signal.signal(signal.SIGTERM, before[1])
    return code, out.getvalue(), err.getvalue()


@effort(400)
@given(line=lines())
def test_a_command_line_of_anything(line: list[str]) -> None:
    """In a folder of broken files; what is refused says so on stderr, and only there."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        for file, content in FILES.items():
            (Path(name) / file).write_bytes(content)
        code, out, err = ended(line)
    assert code != BUG, err
    assert "Traceback" not in out + err
    assert code == 0 or "accel: " in err, (code, out, err)
    assert not set("\x00\x1b\x07") & set(out + err)
