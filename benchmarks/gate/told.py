"""What every script here prints: a table, on what it was made, or the same as JSON."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from scipy.stats import beta

from accel.measure import machine

LIBRARIES = ("accel-inference", "onnxruntime", "numpy", "scipy")
RECORDED = ("workload", "condition", "kind", "machine_class", "versions", "commit", "rules")


def here() -> dict[str, Any]:
    """The machine, the versions and the commit of this checkout."""
    seen = machine.fingerprint()
    return {
        "machine_class": machine.machine_class(seen),
        "machine": seen,
        "versions": {name: _version(name) for name in LIBRARIES},
        "commit": _commit(),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """With a + where the checkout differs from it; empty outside of git."""
    words = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+")
    try:
        found = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return found.stdout.strip()


def parser(text: str) -> argparse.ArgumentParser:
    """With --json, the first line of `text`, and all of it below the options."""
    first, _, rest = text.partition("\n")
    made = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="everything as one JSON document")
    return made


def provenance(headers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Where streams were recorded, and what judged them now."""
    kept = {n: {k: h.get(k) for k in RECORDED if k in h} for n, h in headers.items()}
    return {"recorded": kept, "judged": here()}


def show(as_json: bool, on: Mapping[str, Any], results: Any, text: str) -> None:
    """Print one of the two forms."""
    if as_json:
        print(json.dumps({"on": on, "results": results}, indent=1, allow_nan=False))
        return
    print(text)
    print()
    for name, header in on["recorded"].items():
        print(f"{name}: recorded on machine class {header.get('machine_class', 'unknown')}", end="")
        print(f", commit {header.get('commit', 'unknown')}, {_pairs(header.get('versions', {}))}")
    now = on["judged"]
    print(f"judged with commit {now['commit']}, {_pairs(now['versions'])}")


def _pairs(found: Mapping[str, str]) -> str:
    return ", ".join(f"{k} {v}" for k, v in found.items())


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns aligned; words left, figures right."""
    cells = [list(head), *([_cell(x) for x in row] for row in rows)]
    wide = [max(len(row[i]) for row in cells) for i in range(len(head))]
    right = [i > 0 and _figures(rows, i) for i in range(len(head))]
    return "\n".join(
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, wide, right, strict=True))
        .rstrip()
        for row in cells
    )  # fmt: skip


def _figures(rows: Sequence[Sequence[Any]], i: int) -> bool:
    return any(_cell(row[i])[:1] in "0123456789-+<." for row in rows if _cell(row[i]))


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def percent(value: float | None, digits: int = 1) -> str:
    """0.0123 -> "1.2 %"."""
    return "" if value is None else f"{100 * value:.{digits}f} %"


def short(value: float | None, digits: int) -> str:
    """Rounded; empty for nothing."""
    return "" if value is None else f"{value:.{digits}f}"


def bounds(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson's two-sided interval of a share (Biometrika 26, 1934): exact, conservative."""
    if n == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, n - count + 1))
    high = 1.0 if count == n else float(beta.ppf(1 - tail, count + 1, n - count))
    return low, high


def upper(count: int, n: int, confidence: float = 0.95) -> float:
    """Clopper-Pearson's one-sided upper bound of a share."""
    return 1.0 if count >= n else float(beta.ppf(confidence, count + 1, n - count))
