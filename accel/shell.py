"""What every command shares: its output options, its answer, its endings and their exit codes."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import click

from accel.errors import AccelError, EnvironmentProblem
from accel.plain import shown

BUG = 70
PIPE_CLOSED = 141


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json, --quiet and --debug, on every command."""
    for name, text in (
        ("--debug", "show the traceback of an error"),
        ("--quiet", "no progress"),
        ("--json", "one JSON document on stdout, human text on stderr"),
    ):
        command = click.option(name, name[2:] if name != "--json" else "as_json", is_flag=True, help=text)(command)  # fmt: skip
    return command


def emit(
    kind: str, value: Any, lines: list[str], as_json: bool, bad: AccelError | None = None
) -> None:
    """The answer: a JSON document on stdout and the text on stderr, or the text on stdout.

    `bad`: what is wrong with what was found. It ends the command with its exit code, and with no
    second document: the answer itself says what is wrong."""
    if as_json:
        from accel import manifest

        echo(manifest.document(kind, value))
    for line in lines:
        (beside if as_json else echo)(shown(line, keep="\t"))
    if bad is not None:
        beside(shown(f"accel: {bad}"))
        click.get_current_context().exit(bad.exit_code)


def say(text: object, err: bool = False) -> None:
    """A line for people."""
    echo(shown(text), err=err)


def echo(text: str, err: bool = False) -> None:
    """Write a line. A reader that has gone ends the command with 141, as it ends any other (128 +
    SIGPIPE), not with click's 1: that is a gate that failed. Raises EnvironmentProblem where the
    line cannot be written, such as into a file on a full disk."""
    try:
        click.echo(text, err=err)
    except OSError as error:
        _silence(err)
        if isinstance(error, BrokenPipeError):
            raise SystemExit(PIPE_CLOSED) from None
        raise EnvironmentProblem(
            f"{'stderr' if err else 'The answer, on stdout,'} cannot be written "
            f"({error.strerror or error}). Free some room where it goes, or send it to another "
            f"place, and run the same command again."
        ) from None


def _silence(err: bool) -> None:
    """Write nothing more there: no second document behind half of a first one, and no last flush
    of Python's own that fails, too, and ends the command with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2 if err else 1)


def beside(text: str) -> None:
    """A line on stderr, of an answer that stands on stdout: lost where it cannot be written, for the
    answer has been given, and a second document must not follow it."""
    with contextlib.suppress(EnvironmentProblem):
        echo(text, err=True)


class Amount(click.ParamType):  # type: ignore[type-arg]
    """A number whose unit is demanded."""

    name = "amount"

    def __init__(self, **factors: float) -> None:
        self.factors = factors

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """(amount in the base unit, the unit as given)."""
        found = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z%]*)", str(value))
        units = {k.replace("percent", "%"): v for k, v in self.factors.items()}
        if not found or found[2] not in units:
            self.fail(
                f"{value!r} needs one of the units {', '.join(units)} behind a number, 0 or more: "
                f"0.5{next(iter(units))}"
            )
        try:
            amount = float(found[1]) * units[found[2]]
        except ValueError:
            self.fail(f"{found[1]!r} is not a number", param, ctx)
        if not math.isfinite(amount):
            self.fail(f"{found[1][:20]}... is more than any number", param, ctx)
        return amount, found[2]


class Drop(Amount):
    """An allowed drop of the score: an amount, or `none` for no demand."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """(amount, the unit as given); the amount is None where nothing is demanded."""
        return (None, "none") if value == "none" else super().convert(value, param, ctx)


class _Terminated(BaseException):
    """SIGTERM: it unwinds through everything, a user's code and its `except Exception` too."""


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


def run(command: click.Command) -> NoReturn:
    """Run, and turn every ending into its exit code (see accel.errors)."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal has no letters for
            with contextlib.suppress(OSError):  # a terminal opened to be read, too, cannot be asked
                stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:]
    try:
        code = command.main(words, standalone_mode=False)
        _leave(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        _fail(_pointed(error), 2, words)
    except AccelError as error:
        _trace(words)
        _fail(str(error), error.exit_code, words)
    except (KeyboardInterrupt, click.Abort):
        _fail("Interrupted. Finished steps are kept: run the same command to go on.", 130, words)
    except _Terminated:
        _fail("Terminated. Finished steps are kept: run the same command to go on.", 143, words)
    except BrokenPipeError:
        _leave(PIPE_CLOSED)
    except OSError as error:
        _trace(words)
        text = (
            f"{error.filename or 'The machine'}: {error.strerror or error}. Nothing was answered."
        )
        _fail(text, EnvironmentProblem.exit_code, words)
    except Exception as error:
        _trace(words)
        text = f"This is a bug in accel: {type(error).__name__}: {error}. See it with --debug."
        _fail(text, BUG, words)


def _pointed(error: click.ClickException) -> str:
    """click's own words, and where the right ones stand."""
    text, context = error.format_message(), getattr(error, "ctx", None)
    if context is None or "\n" in text:  # help itself has many lines
        return text
    return f"{text} See: {context.command_path} --help"


def _trace(words: list[str]) -> None:
    """The traceback of the error that is being handled, with --debug."""
    if "--debug" in words:
        beside(traceback.format_exc().rstrip())


def _fail(message: str, code: int, words: list[str]) -> NoReturn:
    """Tell it where it can be told; where nothing can be written, the exit code still tells it."""
    if "--json" in words:
        from accel import manifest

        with contextlib.suppress(EnvironmentProblem):
            echo(manifest.document("error", {"message": message, "exit_code": code}))
    beside(shown(f"accel: {message}"))
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End, also where what others wrote, such as click its help, is still in a buffer."""
    for err, stream in enumerate((sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            _silence(bool(err))
    sys.exit(code)
