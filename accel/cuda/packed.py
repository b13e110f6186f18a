"""PTX that came with a release: compiled elsewhere for this GPU, so that no compiler is needed here.

ACCEL_PTX names its folder, made by `accel kernels build`; `accel finish` names the kernels/ of the
release that it finishes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel import manifest, store
from accel.cuda import building, constants, ledger
from accel.errors import CandidateBroken
from accel.values import Options

VARIABLE = "ACCEL_PTX"


def find(
    kernel: str, dtype: str, baked: Options, compute_capability: str, newest: str
) -> tuple[str, str] | None:
    """Entry and PTX; None where the folder has none of these sources, of these constants as far as
    code hangs on them, for this compute capability, at most of the PTX version `newest` ("": any).

    Raises CandidateBroken where a file is not what was written."""
    path = _manifest()
    if path is None:
        return None
    data = manifest.read(path).get("data", {})
    if data.get("sources", {}).get(kernel) != ledger.source_digest(kernel):
        return None
    wanted = {
        "entry": f"accel_{kernel}_{dtype}",
        "compute_capability": compute_capability,
    }
    code = constants.of_code(kernel, dtype, baked)
    for row in data["kernels"]:
        fits = not newest or _number(row["ptx_version"]) <= _number(newest)
        fits &= {name: row["baked"].get(name) for name in code} == code
        if fits and all(row[name] == value for name, value in wanted.items()):
            return str(row["entry"]), _text(path.parent, row)
    return None


def digest() -> str | None:
    """Of the folder's manifest, which tells every file's; None where no folder is named."""
    path = _manifest()
    return None if path is None else store.digest_file(path)


def _manifest() -> Path | None:
    named = os.environ.get(VARIABLE)
    path = Path(named or ".") / building.MANIFEST
    return path if named and path.is_file() else None


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _text(folder: Path, row: Mapping[str, Any]) -> str:
    name, wanted = next((n, d) for n, d in row["sha256"].items() if n.endswith(".ptx"))
    path = folder / str(name)
    found = store.digest_file(path) if path.is_file() else "absent"
    if found != wanted:
        raise CandidateBroken(
            f"{path} is not what was compiled: sha256 {found[:12]}, its manifest says {wanted[:12]}. "
            f"Copy the release again, or compile here: unset {VARIABLE}"
        )
    return path.read_text(encoding="utf-8")
