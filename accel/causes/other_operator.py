"""A node became another one, or has other attributes."""

from __future__ import annotations

from accel.causes._cause import Cause
from accel.explaining.evidence import Evidence


def judge(e: Evidence) -> Cause | None:
    """Where it is not just computed in another type."""
    if e.part.kind != "node" or (e.half and e.operators[0] == e.operators[1]):
        return None
    one, two = e.attributes
    if e.operators[0] != e.operators[1]:
        return Cause(
            "other operator",
            f"{e.operators[0]} in the reference, {e.operators[1]} here",
            "mend the pass that rewrote it",
            0.6,
        )
    other = sorted(n for n in {*one, *two} if one.get(n) != two.get(n))
    if not other:
        return None
    told = ", ".join(f"{n} is {two.get(n)}, and {one.get(n)} in the reference" for n in other)
    return Cause("other operator", told, "mend the pass that rewrote this node", 0.6)
