"""A node became another one, or has other attributes."""

from __future__ import annotations

from accel.causes._cause import Cause
from accel.explaining.evidence import Evidence

# in which a quantizer writes a product of int8, or of an int4 weight: no pass went wrong there
ROUNDING = ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "MatMulNBits", "QAttention", "DynamicQuantizeLSTM",
            "QEmbedLayerNormalization")  # fmt: skip


def judge(e: Evidence) -> Cause | None:
    """Where it is not just computed in another type."""
    if e.part.kind != "node" or (e.half and e.operators[0] == e.operators[1]):
        return None
    if e.operators[0] != e.operators[1]:
        return _rounded(e) or Cause(
            "other operator",
            f"{e.operators[0]} in the reference, {e.operators[1]} here",
            "mend the pass that rewrote it",
            0.6,
        )
    one, two = e.attributes
    other = sorted(n for n in {*one, *two} if one.get(n) != two.get(n))
    if not other:
        return None
    told = ", ".join(f"{n} is {two.get(n)}, and {one.get(n)} in the reference" for n in other)
    return Cause("other operator", told, "mend the pass that rewrote this node", 0.6)


def _rounded(e: Evidence) -> Cause | None:
    """A product whose operators round; or a Gemm as MatMul and Add, behind a weight that is rounded."""
    found = [o for o in e.through if o in ROUNDING]
    if not found and (e.operators[0] != "Gemm" or {*e.through} != {"MatMul", "Add"}):
        return None
    return Cause(
        "rounded product",
        f"{e.operators[0]} by {', '.join(found or e.through)}: rounded as any of these",
        "leave it in float32, if it matters more than it saves",
        0.4,
    )
