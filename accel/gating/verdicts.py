"""What a verdict.json says, as far as it matters to who blesses on its grounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import manifest, store
from accel.errors import UsageError
from accel.evidence import EXACT, Budget
from accel.gating import budgets

KIND = "accel/verdict"


@dataclass(frozen=True)
class Judged:
    """What a verdict.json says, as far as it matters here."""

    outcome: str
    line: str
    candidate: str  # digest
    baseline: str  # digest
    budgets: tuple[Budget, ...]
    ratio: Mapping[str, float]  # of gating cells
    digest: str  # of the file itself
    alpha_pass: float  # at which its cells passed
    alpha_unfit: float  # at which its instrument was found unfit, or not
    shadow_every: int  # epochs between two with the baseline beside itself
    failed: tuple[str, ...]  # gating cells that did not pass: "copies: 0 -> 5"
    evidence: tuple[int, str]  # epochs, and the last hash of their chain
    stream: str  # the chain's key, by which its folder is named; empty where there was none
    untold: tuple[Budget, ...] = ()  # watched ones on what neither engine tells
    reference: str = ""  # digest of the last release that it counts from; empty: none was timed


def read(path: Path) -> Judged:
    """Raises UsageError for a file that is not the verdict of a gate."""
    data = manifest.read(path)
    if not isinstance(data, dict) or data.get("schema") != KIND:
        raise UsageError(f"{path} is not a verdict: it does not have the schema {KIND!r}.")
    try:
        told: Mapping[str, Any] = data["data"]
        if told["outcome"] == "pass" and not _stands(told):
            raise UsageError(
                f"{path} says pass, and what it found does not: it was altered. Gate again."
            )
        cells = [(_budget(c["budget"]), c.get("ratio")) for c in told["cells"]]
        gating = {budgets.label(b): r for b, r in cells if b.mode == "gate" and r is not None}
        return Judged(
            outcome=str(told["outcome"]),
            line=str(told.get("line", "")),
            candidate=str(told["candidate"]["digest"]),
            baseline=str(told["baseline"]["digest"]),
            budgets=tuple(b for b, _ in cells),
            ratio={k: float(f"{r:.6g}") for k, r in gating.items()},
            digest=store.digest_file(path),
            alpha_pass=float(told["rules"]["alpha_pass"]),
            alpha_unfit=float(told["rules"]["alpha_unfit"]),
            shadow_every=int(told["rules"]["shadow_every"]),
            failed=tuple(_failed(c) for c in told["cells"] if _lost(c)),
            evidence=(int(told["evidence"]["epochs"]), str(told["evidence"]["head"])),
            stream=Path(told["evidence"]["folder"] or "").name,
            untold=tuple(_budget(c["budget"]) for c in told["cells"] if _untold(c)),
            reference=str((told.get("reference") or {}).get("digest", "")),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{type(error).__name__} {error}"
        raise UsageError(f"{path} is not a whole verdict: {what}. Gate again.") from None


def is_verdict(path: Path) -> bool:
    """Whether a gate wrote this file, of this version or another."""
    try:
        data = manifest.read(path)
    except UsageError:
        return False
    return isinstance(data, dict) and data.get("schema") == KIND


def _stands(told: Mapping[str, Any]) -> bool:
    """Does a pass follow from the cells beside it?"""
    gating = [c["outcome"] for c in told["cells"] if c["budget"]["mode"] == "gate"]
    return bool(gating and told["fitness"]["fit"] is True) and all(o == "pass" for o in gating)


def _lost(cell: Mapping[str, Any]) -> bool:
    return bool(cell["outcome"] != "pass" and cell["budget"]["mode"] == "gate")


def _untold(cell: Mapping[str, Any]) -> bool:
    """Was it watched, of a count that neither side has?"""
    counts = cell["budget"]["metric"] in EXACT and cell["outcome"] == "cannot tell"
    known = [cell.get(side) for side in ("value", "baseline")]
    return bool(counts and cell["budget"]["mode"] == "watch" and known == [None, None])


def _failed(cell: Mapping[str, Any]) -> str:
    """What was accepted, in a line that stays short."""
    values = cell.get("baseline"), cell.get("value")
    seen = " -> ".join("?" if x is None else f"{float(x):.6g}" for x in values)
    open_ = "" if cell["outcome"] == "fail" else f" ({cell['outcome']})"
    return f"{budgets.label(_budget(cell['budget']))}: {seen}{open_}"


def _budget(told: Mapping[str, Any]) -> Budget:
    """A cell's budget; what else stands beside it there is for people."""
    names = {f.name for f in dataclasses.fields(Budget)}
    return manifest.load(Budget, {k: v for k, v in told.items() if k in names})
