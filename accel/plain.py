"""Text and values from other people's files, as they may stand on a terminal."""

import reprlib
from typing import Any

LONGEST_BITS = 128  # of a whole number that is written out; Python itself refuses 4,300 digits


def shown(text: object, keep: str = "\n\t") -> str:
    r"""What would steer a terminal is spelled out: "\x1b[31mred" has nothing red about it."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode()
        for c in str(text)
    )


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
