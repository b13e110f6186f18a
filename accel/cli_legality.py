"""accel inspect --for: what speaks against a graph on a target, and the mended graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accel.cli_place import keep, working_folder
from accel.errors import AccelError, ConstraintError, Unmeasured
from accel.shell import emit


def judge(
    model: Path, target: str, data: str | None, out: Path | None, lint: bool, as_json: bool
) -> None:
    """The findings, worst first, each with its source and what mends it."""
    from accel.questions import inspect as question

    if out is None:
        found = question.judge(model, target, data, lint=lint)
    else:
        with working_folder(out, model, data) as folder:
            found = question.judge(model, target, data, folder / "model.onnx", lint)
            found = keep(found, out) if found.fixed else found
    lines = [f"fixed: {line}" for line in found.fixed]
    for f in found.findings:
        where = f" [{f.where}]" if f.where else ""
        lines.append(f"{f.level}: {f.message}{where} ({f.rule}; {f.source})")
        if f.fix:
            lines.append(f"  mend: {f.fix}")
    if found.fixed:
        lines.append(str(found.path))
    elif out is not None:
        older = ", and is older than this" if out.exists() else ""
        lines.append(f"nothing could be mended: {out} was not written{older}")
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
