"""accel inspect: what is in an .onnx, and with --for whether it would build on a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from accel.cli_steps import keep, working_folder
from accel.errors import AccelError, ConstraintError, Unmeasured, UsageError
from accel.shell import emit, output_options


@click.command()
@click.argument("model", type=Path)
@click.option("--for", "target", help="would it build there? a profile, or a .toml")
@click.option("--data", help=".npz of feeds: the sizes of dynamic axes; goes with --for")
@click.option("--fix", "out", type=Path, help="write the graph with what can be mended; with --for")
@output_options
def inspect(
    model: Path, target: str | None, data: str | None, out: Path | None, as_json: bool, **_: Any
) -> None:
    """What is in an .onnx: ports, opset, operators, parameters, size, dtypes.

    With --for: static checks against that target. Exit 1: errors, 3: nothing worse than unknown."""
    if target is not None:
        _judge(model, target, data, out, as_json)
        return
    if data is not None or out is not None:
        raise UsageError("--data and --fix go with --for TARGET. Run: accel list targets")
    from accel.questions import inspect as question

    found = question.inspect(model)
    ports = [
        f"{k} {p.name}: {p.dtype} {list(p.shape)}"
        for k in ("input", "output")
        for p in getattr(found, f"{k}s")
    ]
    lines = [
        *ports,
        f"opset: {dict(found.opsets)}",
        f"operators: {dict(found.operators)}",
        f"parameters: {found.parameters:,} {dict(found.dtypes)}",
        f"size: {found.size_bytes / 1e6:.2f} MB",
    ]
    emit("inspect", found, lines, as_json)


def _judge(model: Path, target: str, data: str | None, out: Path | None, as_json: bool) -> None:
    """The findings, worst first, each with its source and what mends it."""
    from accel.questions import inspect as question

    if out is None:
        found = question.judge(model, target, data)
    else:
        with working_folder(out, model) as folder:
            found = question.judge(model, target, data, folder / "model.onnx")
            found = keep(found, out) if found.fixed else found
    lines = [f"fixed: {line}" for line in found.fixed]
    for f in found.findings:
        where = f" [{f.where}]" if f.where else ""
        lines.append(f"{f.level}: {f.message}{where} ({f.rule}; {f.source})")
        if f.fix:
            lines.append(f"  mend: {f.fix}")
    if found.fixed:
        lines.append(str(found.path))
    lines.append(f"{found.path.name} for {found.target}: {_counted(found)}")
    emit("legality", found, lines, as_json, _bad(found))


def _counted(found: Any) -> str:
    """2 errors, 1 unknown; or that nothing was found."""
    words = {"error": "errors", "unknown": "unknown", "warning": "warnings", "note": "notes"}
    counts = {w: sum(f.level == level for f in found.findings) for level, w in words.items()}
    return ", ".join(f"{n} {w}" for w, n in counts.items() if n) or "nothing found against it"


def _bad(found: Any) -> AccelError | None:
    levels = {f.level for f in found.findings}
    if "error" in levels:
        return ConstraintError(f"{found.path.name} would not build as it is for {found.target}.")
    if "unknown" in levels:
        return Unmeasured(
            f"Whether {found.path.name} builds for {found.target} cannot be told here."
        )
    return None
