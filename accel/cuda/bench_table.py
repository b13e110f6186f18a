"""The table of a bench, as text: what a reader compares stands side by side."""

from __future__ import annotations

from typing import Any

from accel.cuda.bench import OWN, Bench, Overhead, Row
from accel.values import Options

HEAD = ("kernel", "dtype", "load", "MB", "accel us", "spread", "of copy", "eager", "compiled", "")


def lines(found: Bench) -> list[str]:
    """Large loads, then models', then launches; times in microseconds, peers as x the kernel's."""
    before, after = found.copy_bytes_per_s
    text = [
        _told(found.machine),
        *([f"after the rows: {_told(found.clocks_after)}"] if found.clocks_after else []),
        f"copy: {before / 1e9:.0f} GB/s read and written, {after / 1e9:.0f} GB/s after the rows",
    ]
    for title, large in (
        ("large: 512 MB moved or more", True),
        ("models' sizes, the L2 overwritten before each repetition", False),
    ):
        rows = [row for row in found.rows if row.large == large]
        if rows:
            text += ["", title, *columns([HEAD, *map(_row, rows)])]
    if found.overheads:
        torch = f"torch.add(out=) costs the host {found.torch_launch_s * 1e6:.1f} us"
        head = ("kernel", "run us", "bound us", "in a graph us")
        text += ["", f"launches ({torch})", *columns([head, *map(_overhead, found.overheads)])]
    return text + [f"{r.what}: not timed: {r.reason}" for r in found.refused]


def figures(found: Bench) -> list[dict[str, Any]]:
    """The table's numbers, a mapping a row, for whoever reads the JSON."""
    return [
        {
            "kernel": row.kernel,
            "dtype": row.dtype,
            "load": row.load,
            "large": row.large,
            "moved_bytes": row.moved_bytes,
            "median_s": {name: arm.median_s for name, arm in row.arms.items()},
            "of_copy": row.of_copy,
            "ratios": {name: row.ratio(name) for name in row.arms if name != OWN},
            "notes": list(row.notes),
        }
        for row in found.rows
    ]


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Text left, numbers right, two blanks between."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = {i for i, column in enumerate(zip(*rows[1:], strict=True)) if not _numbers(column)}
    return [
        "  ".join(
            cell.ljust(width) if i in texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _numbers(column: tuple[str, ...]) -> bool:
    return all(cell == "-" or cell[:1].isdigit() for cell in column) and any(column)


def _told(facts: Options) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _row(row: Row) -> tuple[str, ...]:
    own = row.arms[OWN]
    notes = [f"{name} waited for the host" for name, arm in row.arms.items() if arm.launch_bound]
    return (
        row.kernel,
        row.dtype,
        row.load,
        f"{row.moved_bytes / 1e6:.2f}",
        f"{own.median_s * 1e6:.1f}",
        f"{own.spread:.1%}",
        f"{row.of_copy:.0%}",
        *(f"{row.ratio(a):.2f}x" if a in row.arms else "-" for a in ("eager", "compiled")),
        "; ".join([*notes, *row.notes]),
    )


def _overhead(found: Overhead) -> tuple[str, ...]:
    times = (found.run_s, found.bound_s, found.graph_s)
    return (found.kernel, *(f"{seconds * 1e6:.2f}" for seconds in times))
