"""Faults of many kinds, planted into a quantized graph at a drawn site, as severe as asked.

Each function takes a Case and a severity in (0, 1], and gives what was planted, or None where the net has
no such site. What is planted is what goes wrong in practice: see the pains that accel/causes tells of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from case import Case, Draw, Fault, array, copy, replace
from onnx import numpy_helper
from rewrite import fp16_overflow, outlier_channel, pair_saturation

LEAST_CHANNELS = 4
SCALED = ("Conv", "Gemm", "MatMul")


def clipped_range(case: Case, draw: Draw, severity: float) -> Fault | None:
    """A range of a half to a sixteenth."""
    return _rescaled(case, draw, 2.0 ** (-4 * severity))


def stale_scale(case: Case, draw: Draw, severity: float) -> Fault | None:
    """A range 8 to 512 times as wide as what passes."""
    return _rescaled(case, draw, 2.0 ** (3 + 6 * severity))


def bad_calibration_sample(case: Case, draw: Draw, severity: float) -> Fault | None:
    """One image of the calibration set was never divided by 255; it set the range of one tensor."""
    spoilt = case.calibration.copy()
    spoilt[draw.integers(len(spoilt))] *= 2.0 ** (4 + 6 * severity)
    wide = case.quantize(case.reference, spoilt)
    site = draw.choice(_activations(case))
    made = copy(case.base)
    for end in ("scale", "zero_point"):
        replace(made, f"{site}_{end}", array(wide, f"{site}_{end}"))
    return Fault(case.reference, made, _sharing(case, str(site)), spoilt)


def zero_point(case: Case, draw: Draw, severity: float) -> Fault | None:
    """What is read back is shifted: another zero point than it was written with."""
    site, made = draw.choice(_activations(case)), copy(case.base)
    name = f"{site}_zero_point"
    old = array(made, name)
    kind = np.iinfo(old.dtype)
    by = round(2 + 60 * severity) * int(draw.choice([-1, 1]))
    moved = np.asarray(np.clip(int(old) + by, kind.min, kind.max), old.dtype)
    if moved == old:
        moved = np.asarray(np.clip(int(old) - by, kind.min, kind.max), old.dtype)
    made.graph.initializer.append(numpy_helper.from_array(moved, f"{name}_stale"))
    for node in made.graph.node:
        if node.op_type == "DequantizeLinear" and name in node.input:
            node.input[2] = f"{name}_stale"
    return Fault(case.reference, made, _sharing(case, str(site)))


def weight_scale(case: Case, draw: Draw, severity: float) -> Fault | None:
    """The scale of another checkpoint: all channels come back too large, or too small."""
    weight, value = _weight(case, draw)
    made = copy(case.base)
    factor = 1 + 2 * severity if draw.random() < 0.5 else 1 / (1 + 3 * severity)
    replace(made, f"{weight}_scale", (array(made, f"{weight}_scale") * factor).astype(np.float32))
    return Fault(case.reference, made, (value,))


def swapped_axis(case: Case, draw: Draw, severity: float) -> Fault | None:
    """Scales that were computed along the other axis; where it has another size, of shuffled channels."""
    weight, value = _weight(case, draw)
    made, float_weight = copy(case.base), array(case.reference, weight)
    scale = array(made, f"{weight}_scale")
    axis = _axis(made, weight)
    if float_weight.shape[1 - axis] == scale.size:
        others = tuple(i for i in range(float_weight.ndim) if i != 1 - axis)
        wrong = np.abs(float_weight).max(axis=others) / 127
    else:
        some = draw.permutation(scale.size)[: max(2, int(severity * scale.size))]
        wrong = scale.copy()
        wrong[some] = scale[np.roll(some, 1)]
    replace(made, f"{weight}_scale", np.maximum(wrong, 1e-12).astype(np.float32))
    return Fault(case.reference, made, (value,))


def stale_bias(case: Case, draw: Draw, severity: float) -> Fault | None:
    """An int32 bias that is read with the scale of another calibration."""
    known = {t.name for t in case.base.graph.initializer}
    found = [
        (n.input[2], n.output[0]) for n in case.reference.graph.node
        if n.op_type in ("Conv", "Gemm") and len(n.input) > 2 and f"{n.input[2]}_quantized_scale" in known
    ]  # fmt: skip
    if not found:
        return None
    bias, value = found[draw.integers(len(found))]
    made, name = copy(case.base), f"{bias}_quantized_scale"
    factor = np.float32(1 + 15 * severity)
    replace(made, name, array(made, name) * factor)
    return Fault(case.reference, made, (value,))


KINDS: Mapping[str, Callable[[Case, Draw, float], Fault | None]] = {
    f.__name__: f
    for f in (clipped_range, stale_scale, bad_calibration_sample, zero_point, weight_scale, swapped_axis,
              stale_bias, outlier_channel, fp16_overflow, pair_saturation)
}  # fmt: skip


def _activations(case: Case) -> list[str]:
    """Values of the reference that have a pair."""
    made = {o for n in case.reference.graph.node for o in n.output} | {"x"}
    found = {n.input[0] for n in case.base.graph.node if n.op_type == "QuantizeLinear"}
    known = {t.name for t in case.base.graph.initializer}
    return sorted(v for v in found & made if f"{v}_scale" in known)


def _sharing(case: Case, site: str) -> tuple[str, ...]:
    """The values whose pairs have this one's scale, itself first."""
    others = {
        n.input[0] for n in case.base.graph.node
        if n.op_type == "QuantizeLinear" and n.input[1] == f"{site}_scale" and n.input[0] != site
    }  # fmt: skip
    return (site, *sorted(others))


def _rescaled(case: Case, draw: Draw, factor: float) -> Fault:
    site, made = draw.choice(_activations(case)), copy(case.base)
    old = array(made, f"{site}_scale")
    replace(made, f"{site}_scale", (old * factor).astype(np.float32))
    return Fault(case.reference, made, _sharing(case, str(site)))


def _weight(case: Case, draw: Draw) -> tuple[str, str]:
    """A quantized weight, and the value that its product makes."""
    known = {t.name for t in case.base.graph.initializer}
    found = [
        (n.input[1], n.output[0]) for n in case.reference.graph.node
        if n.op_type in SCALED and f"{n.input[1]}_quantized" in known
        and array(case.base, f"{n.input[1]}_scale").size >= LEAST_CHANNELS
    ]  # fmt: skip
    return found[draw.integers(len(found))]


def _axis(proto: Any, weight: str) -> int:
    node = next(n for n in proto.graph.node if f"{weight}_quantized" in n.input)
    return next((a.i for a in node.attribute if a.name == "axis"), 1) % 2
