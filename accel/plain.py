"""Text and values from other people's files, as they may stand on a terminal."""

import re
import reprlib
from typing import Any

LONGEST_BITS = 128  # of a whole number that is written out; Python itself refuses 4,300 digits
# What GitHub's runner takes for a command: a line that begins with two colons, after blanks too, and two
# hashes before a bracket anywhere. See its src/Runner.Common/ActionCommand.cs.
COMMAND = re.compile(r"^[^\S\n]*:(?=:)|##(?=\[)", re.MULTILINE)


def shown(text: object, keep: str = "\n\t") -> str:
    r"""What would steer a terminal, or the runner of a CI, is spelled out: "\x1b[31mred" has nothing
    red about it. `keep`: what else may stay; without it all of it is one line."""
    printable = "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode()
        for c in str(text)
    )
    return COMMAND.sub(lambda found: f"{found[0][:-1]}\\x{ord(found[0][-1]):02x}", printable)


def flat(error: object) -> str:
    """What a foreign error says, however many lines it takes for it, in one."""
    return shown(" ".join(str(error).split()), keep="")


class _Short(reprlib.Repr):
    """repr() that always ends: of nested values, endless numbers, objects whose own one raises."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 - reprlib calls it so
        """Hexadecimal digits have no limit."""
        return repr(x) if x.bit_length() <= LONGEST_BITS else f"{x:#x}"[: self.maxlong] + "..."


def seen(value: Any) -> str:
    """A value, for a message: in one printable line, and not a long one."""
    return _Short().repr(value)
