"""The parts of a conversion that can be taken back one at a time.

A pair of Q/DQ around a value (with others that share its scale), a weight that became another, or a node
that computes otherwise: in 16 bits, with another attribute, or as other operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from onnx import helper

from accel.explaining.view import DEQUANTIZE, HALVES, QUANTIZE, View, aligned, between
from accel.qdq import order

SAME = 1e-6  # of a weight's size: less than that is rounding of a file format
PLUMBING = (QUANTIZE, DEQUANTIZE, "Cast", "Constant", "Identity")
BITS = "16 bits"  # how a cast to them is told from operators


@dataclass(frozen=True)
class Part:
    """Something that can be taken back alone."""

    kind: Literal["activation", "weight", "node"]
    value: str  # the reference's name: what is quantized, or what the node makes
    slot: int = -1  # of a weight: which of its node's inputs
    node: str = ""  # name of the reference's node
    also: tuple[str, ...] = ()  # other values whose pairs have this one's scale

    @property
    def title(self) -> str:
        """For a reader."""
        if self.kind == "activation":
            return f"activation {self.value}{f' and {len(self.also)} with its scale' if self.also else ''}"
        return (
            f"weight (input {self.slot}) of {self.node}"
            if self.kind == "weight"
            else f"node {self.node}"
        )


def parts(reference: View, candidate: View) -> tuple[Part, ...]:
    """All of them, in the order of the reference's graph."""
    names = aligned(reference, candidate)
    found = [*_activations(candidate, names), *_others(reference, candidate, names)]
    place = {name: i for i, name in enumerate((*reference.inputs, *reference.makers))}
    return tuple(sorted(found, key=lambda p: (place[p.value], p.kind, p.slot)))


def _activations(candidate: View, names: Mapping[str, str]) -> Iterator[Part]:
    """One for each scale: a Reshape's output is rounded with that of its input."""
    forms = {form: name for name, form in names.items()}
    shared: dict[str, list[str]] = {}
    for node in candidate.proto.graph.node:
        if order.rounds(node, QUANTIZE) and node.input[0] in forms:
            values = shared.setdefault(node.input[1], [])
            if forms[node.input[0]] not in values:
                values.append(forms[node.input[0]])
    for first, *rest in shared.values():
        yield Part("activation", first, also=tuple(rest))


def _others(reference: View, candidate: View, names: Mapping[str, str]) -> Iterator[Part]:
    for value in reference.makers:
        if value not in names:
            continue
        wanted, got = reference.node(value), candidate.node(names[value])
        if wanted is None or got is None or next(o for o in wanted.output if o) != value:
            continue
        title = wanted.name or value
        half, other = _differs(reference, candidate, value, names)
        if half or other:
            yield Part("node", value, node=title)
        if other:
            continue
        for slot, name in enumerate(wanted.input):
            if slot < len(got.input) and _changed(reference, candidate, name, got.input[slot]):
                yield Part("weight", value, slot, title)


def _changed(reference: View, candidate: View, name: str, now: str) -> bool:
    """Is a constant there another one here, and more than rounded to 16 bits, which is its node's part?"""
    if not name or name not in reference.constants:
        return False
    before, after = reference.array(name), candidate.array(now)
    if before is None or after is None or before.shape != after.shape:
        return False
    if before.dtype.kind != "f":
        return not np.array_equal(before, after)
    if (kind := candidate.dtypes.get(now)) in HALVES:
        with np.errstate(all="ignore"):  # what is too large is infinite in both
            before = before.astype(helper.tensor_dtype_to_np_dtype(kind))
    off = np.abs(before.astype(np.float64) - after.astype(np.float64)).max(initial=0.0)
    return bool(off > SAME * np.abs(before).max(initial=0.0))


def _differs(
    reference: View, candidate: View, value: str, names: Mapping[str, str]
) -> tuple[bool, bool]:
    """Is it computed in 16 bits? And do other operators lead from the same values to this one, or with other
    attributes?"""
    there = {form: name for name, form in names.items()}
    one, from_one = between(reference, value, names)
    two, from_two = between(candidate, names[value], there)
    signs = [_signs(v, nodes) for v, nodes in ((reference, one), (candidate, two))]
    casts = {s.pop(BITS, 0) for s in signs}
    half = candidate.dtypes.get(names[value]) in HALVES or len(casts) > 1
    return half, signs[0] != signs[1] or {*from_one} != {there[n] for n in from_two}


def _signs(view: View, nodes: list[int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in (view.proto.graph.node[i] for i in nodes):
        if node.op_type == "Cast" and any(a.name == "to" and a.i in HALVES for a in node.attribute):
            found[BITS] += 1
        if node.op_type not in PLUMBING:
            options = sorted(a.SerializeToString(deterministic=True).hex() for a in node.attribute)
            found[f"{node.domain}.{node.op_type} {options}"] += 1
    return found


def pairs(candidate: View, form: str) -> Iterator[tuple[Any, Any]]:
    """The Q nodes of a value, each with the DQ nodes behind it."""
    for index, slot in candidate.readers.get(form, ()):
        node = candidate.proto.graph.node[index]
        if not order.rounds(node, QUANTIZE) or slot != 0:
            continue
        for after, _ in candidate.readers.get(node.output[0], ()):
            if order.rounds(candidate.proto.graph.node[after], DEQUANTIZE):
                yield node, candidate.proto.graph.node[after]
