"""The candidate table as rows of plain text."""

from __future__ import annotations

from collections.abc import Sequence

from accel.values import Candidate

HEAD = ("candidate", "status", "latency ms", "roofline", "drop", "size MB", "why")


def row(candidate: Candidate) -> tuple[str, ...]:
    """One line: name, what became of it, weighted latency, share of the floor, drop, size, reason."""
    time_s = candidate.objective_s or candidate.screen_s
    mark = "" if candidate.objective_s else "~"  # ~: screened only
    return (
        candidate.name,
        candidate.status,
        "" if time_s is None else f"{mark}{time_s * 1e3:.3f}",
        share(candidate),
        "" if candidate.drop is None else f"{candidate.drop:+.2f}",
        f"{candidate.size_bytes / 1e6:.1f}" if candidate.size_bytes else "",
        candidate.reason.partition("\n")[0][:160],
    )


def share(candidate: Candidate) -> str:
    """The least time that the target's rates allow, of the time that it took: "12 %"."""
    time_s = candidate.objective_s or candidate.screen_s
    if candidate.floor_s is None or not time_s:
        return ""
    percent = 100 * candidate.floor_s / time_s
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %"


def markdown(candidates: Sequence[Candidate]) -> str:
    """All rows as a Markdown table, the measured ones first."""
    order = {"measured": 0, "built": 1, "pruned": 2, "refused": 3, "unmeasured": 4, "failed": 5}
    ranked = sorted(
        candidates, key=lambda c: (order.get(c.status, 9), c.objective_s or c.screen_s or 9e9)
    )
    lines = [HEAD, tuple("---" for _ in HEAD), *(row(c) for c in ranked)]
    return "\n".join("| " + " | ".join(x.replace("|", "/") for x in line) + " |" for line in lines)
