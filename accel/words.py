"""Words of the command line that name something, a text or a path. An empty one names nothing, nor does
one with a NUL, which ends a name in the system's own calls.

A script whose variable is not set gives `--data ""`: were that the same as no --data at all, it
would pass on random numbers where data was meant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class Text(click.ParamType):  # type: ignore[type-arg]
    """A text that is not empty, without a NUL."""

    name = "text"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The same."""
        if str(value) == "":
            needed = param is None or param.required
            self.fail(
                f"'' is empty. Give a value{'' if needed else ', or leave it out'}.", param, ctx
            )
        if "\0" in str(value):
            self.fail(f"{str(value)!r} holds a NUL, which no name can. Leave it out.", param, ctx)
        return value


class Place(Text):
    """A path; to pathlib an empty one would be the folder one stands in."""

    name = "path"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """As a Path."""
        return Path(super().convert(value, param, ctx))


TEXT, PLACE = Text(), Place()
