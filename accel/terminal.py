"""Progress on a terminal: the table of candidates grows row by row under what runs now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from accel.plain import shown
from accel.report import table


@contextmanager
def live() -> Iterator[Callable[[Any], None]]:
    """A function that takes events and keeps the screen up to date; the cursor always comes back."""
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    rows: dict[str, tuple[str, ...]] = {}
    with Live(
        console=Console(stderr=True), refresh_per_second=4, vertical_overflow="visible"
    ) as screen:

        def show(event: Any) -> None:
            if event.candidate is not None:
                rows[event.candidate.name] = table.row(event.candidate)
            left = f" [{event.done + 1}/{event.total}]" if event.total else ""
            drawn = Table(*table.HEAD, caption=Text(f"{shown(event.text[:100])}{left}"))
            for line in rows.values():
                drawn.add_row(*(Text(shown(word)) for word in line))  # a bare text is markup
            screen.update(drawn)

        yield show
