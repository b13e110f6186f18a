"""What is known of one part: the numbers that a cause is told by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from accel.explaining.parts import PLUMBING, Part, pairs
from accel.explaining.revert import arrays_of
from accel.explaining.view import DEQUANTIZE, HALVES, View, aligned, between
from accel.qdq import order
from accel.qdq.sites import sites
from accel.sketch import Sketch

OTHER = 2.0  # times: a value of another size is another one
HALF_MOST = 65504.0  # float16's largest (IEEE 754)
TWO = "MatMul of two activations"


@dataclass(frozen=True)
class Evidence:
    """Of an activation: its values, and the range that its pair covers. Of a weight: both forms."""

    part: Part
    seen: Sketch | None = None  # an activation's values in the candidate, a node's in the reference
    read: Sketch | None = None  # of a node: the values that it reads, in the reference
    calibrated: Sketch | None = None  # on calibration data, where it was given
    low: float = 0.0  # the least and the largest value that the pair can give back
    high: float = 0.0
    step: float = 0.0
    unlike: str = ""  # how a Q and the DQ behind it differ
    before: NDArray[Any] | None = None  # a weight, and what the candidate computes with
    after: NDArray[Any] | None = None
    quantized: NDArray[Any] | None = None  # its integers
    scale: NDArray[Any] | None = None
    axis: int | None = None  # along which it has scales; None: one for all
    channels: int | None = None  # the axis of its output channels
    unsigned: bool = False  # the activation beside a weight is uint8
    half: str = ""  # "float16", "bfloat16": of a node that computes in it
    operators: tuple[str, str] = ("", "")  # of a node, in the reference and in the candidate
    through: tuple[str, ...] = ()  # all that the candidate computes a node by
    attributes: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
    around: tuple[str, ...] = ()  # an activation's maker and its readers, past ReLUs


def evidence(
    reference: View,
    candidate: View,
    part: Part,
    seen: Mapping[str, Sketch],
    held: Mapping[str, Sketch],
    calibrated: Mapping[str, Sketch] | None = None,
) -> Evidence:
    """Everything that a file of accel/causes may ask for. `seen`: the reference's values; `held`: the
    candidate's own, under its names."""
    names = aligned(reference, candidate)
    if part.kind == "activation":
        form = names[part.value]
        known = (calibrated or {}).get(part.value)
        low, high, step, unlike = _ends(candidate, form)
        now = _own(seen.get(part.value), held.get(form))
        around = _around(reference, part.value)
        return Evidence(part, now, None, known, low, high, step, unlike, around=around)
    if part.kind == "weight":
        return _of_weight(reference, candidate, part, names[part.value])
    forms = {form: name for name, form in names.items()}
    one = _work(reference, between(reference, part.value, names)[0])
    nodes = between(candidate, names[part.value], forms)[0]
    two = _work(candidate, nodes)
    return Evidence(
        part,
        seen.get(part.value),
        read=seen.get(one.input[0]) if one is not None and one.input else None,
        half=_half(candidate, nodes),
        operators=(one.op_type if one else "", two.op_type if two else ""),
        through=_through(candidate, nodes),
        attributes=(_options(one), _options(two)),
    )


def _own(seen: Sketch | None, held: Sketch | None) -> Sketch | None:
    """The reference's values, or the candidate's where they are of another size: equalised ones are."""
    if seen is None or held is None or not held.count or not seen.count:
        return seen or held
    one, two = (max(-s.low, s.high) for s in (seen, held))
    return seen if two < OTHER * one and one < OTHER * two else held


def _around(reference: View, value: str) -> tuple[str, ...]:
    maker, left = reference.node(value), [value]
    while maker is not None and _named(reference, maker) == "Relu":
        maker = reference.node(maker.input[0])
    found = ["" if maker is None else _named(reference, maker)]
    while left:
        for index, _ in reference.readers.get(left.pop(), ()):
            node = reference.proto.graph.node[index]
            name = _named(reference, node)
            if name == "Relu":
                left.append(node.output[0])
            else:
                found.append(name)
    return tuple(found)


def _named(reference: View, node: Any) -> str:
    """A product of two activations has no weight that a scale could move into."""
    if node.domain not in ("", "ai.onnx"):
        return f"{node.domain}.{node.op_type}"
    alone = node.op_type == "MatMul" and node.input[1] not in reference.constants
    return TWO if alone else str(node.op_type)


def _work(view: View, nodes: Sequence[int]) -> Any:
    """The last node that computes something."""
    found = [view.proto.graph.node[i] for i in nodes]
    return next((n for n in reversed(found) if n.op_type not in PLUMBING), None)


def _through(view: View, nodes: Sequence[int]) -> tuple[str, ...]:
    found = (view.proto.graph.node[i].op_type for i in nodes)
    return tuple(dict.fromkeys(o for o in found if o not in PLUMBING))


def _ends(candidate: View, form: str) -> tuple[float, float, float, str]:
    """The range of a pair, its step, and how what is read back differs from what was written."""
    there, back = next(pairs(candidate, form), (None, None))
    one = None if there is None else candidate.pair(there)
    two = None if back is None else candidate.pair(back)
    if one is None or two is None or one[1].dtype.kind not in "iu":
        return 0.0, 0.0, 0.0, ""
    kind, middle = np.iinfo(one[1].dtype), float(np.ravel(one[1])[0])
    scale = float(np.max(one[0]))
    unlike = ""
    if not np.array_equal(one[1], two[1]):
        unlike = f"zero point {np.ravel(one[1])[0]} as it is written, {np.ravel(two[1])[0]} as it is read back"
    elif not np.array_equal(one[0], two[0]):
        unlike = f"scale {np.ravel(one[0])[0]:.3g} as it is written, {np.ravel(two[0])[0]:.3g} as it is read back"
    return (kind.min - middle) * scale, (kind.max - middle) * scale, scale, unlike


def _of_weight(reference: View, candidate: View, part: Part, form: str) -> Evidence:
    before, after = arrays_of(reference, candidate, part)
    node = candidate.node(form)
    assert node is not None
    back = candidate.node(node.input[part.slot])
    found = Evidence(part, before=before, after=after)
    read = back is not None and order.rounds(back, DEQUANTIZE)
    pair = candidate.pair(back) if read else None
    if back is None or pair is None or back.input[0] not in candidate.constants:
        return found
    axis = next((a.i for a in back.attribute if a.name == "axis"), 1)
    return Evidence(
        part,
        before=before,
        after=after,
        quantized=numpy_helper.to_array(candidate.constants[back.input[0]]),
        scale=pair[0],
        axis=axis % before.ndim if pair[0].size > 1 and before.ndim else None,
        channels=_channels(reference, part),
        unsigned=_unsigned(candidate, node, part.slot),
    )


def _channels(reference: View, part: Part) -> int | None:
    index = reference.makers[part.value]
    found = (s.weight for s in sites(reference.proto) if s.index == index and s.weight)
    return next((w.axis for w in found if w.slot == part.slot), None)


def _unsigned(candidate: View, node: Any, slot: int) -> bool:
    """Is the factor beside it uint8?"""
    other = candidate.node(node.input[1 - slot]) if slot < 2 else None
    if other is None or other.op_type != DEQUANTIZE or len(other.input) < 3:
        return False
    zero = candidate.constants.get(other.input[2])
    return zero is not None and zero.data_type == TensorProto.UINT8


def _half(candidate: View, nodes: Sequence[int]) -> str:
    """The type of 16 bits of a value that these nodes read or make, if any."""
    for node in (candidate.proto.graph.node[i] for i in nodes):
        for name in (*node.input, *node.output):
            if (kind := candidate.dtypes.get(name)) in HALVES:
                return HALVES[kind]
    return ""


def _options(node: Any) -> Mapping[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} if node else {}
