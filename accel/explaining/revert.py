"""Take parts of a conversion back: a graph like the candidate in all but these."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from accel.explaining.parts import Part, pairs
from accel.explaining.view import DEQUANTIZE, HALVES, QUANTIZE, View, aligned, between
from accel.qdq import order

MARK = "__reference"
ABSORBED = ("Relu", "Clip")
ROUNDED = 0.51  # of a step: the zero point of Clip(-1, 1) is rounded; and what float32 scales lose


def restored(reference: View, candidate: View) -> View:
    """The candidate with the activations that a quantizer took out, since its rounding clips alike.

    (ONNX Runtime's QDQRemovableActivation: a convolution then makes the ReLU's value at once, and
    without its pair the ReLU would be missing.) One behind which nothing clips so is a fault, and is left
    for `parts` to find. And with lookups in int8 as lookups in tables that were given back as float32: the
    same numbers, and a constant that can be compared."""
    made = onnx.ModelProto()
    made.CopyFrom(candidate.proto)
    done = _tables(made, candidate)
    for node in reference.proto.graph.node:
        if node.op_type not in ABSORBED or node.domain:
            continue
        before, after = node.input[0], node.output[0]
        one, two = reference.node(before), candidate.node(after)
        if before in candidate.makers or one is None or two is None or one.op_type != two.op_type:
            continue
        if not _clips(candidate, after, _bounds(reference, node)):
            continue
        source = made.graph.node[candidate.makers[after]]
        source.output[list(source.output).index(after)] = before
        copy = made.graph.node.add()
        copy.CopyFrom(node)
        copy.input[1:] = [_constant(made, reference, n) if n else n for n in node.input[1:]]
        done = True
    if done:
        _sort(made)
    return View(made) if done else candidate


def _bounds(reference: View, node: Any) -> tuple[float, float] | None:
    """What an activation lets pass; None where that is computed."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    options = {a.name: a.f for a in node.attribute}  # below opset 11
    ends = [options.get("min", -math.inf), options.get("max", math.inf)]
    for i, name in enumerate(node.input[1:3]):
        found = reference.array(name) if name else np.asarray(ends[i])
        if found is None or found.size != 1:
            return None
        ends[i] = float(found.ravel()[0])
    return ends[0], ends[1]


def _clips(candidate: View, value: str, bounds: tuple[float, float] | None) -> bool:
    """Does all that reads it round it to numbers within these bounds? Then they change nothing."""
    nodes = [candidate.proto.graph.node[i] for i, _ in candidate.readers.get(value, ())]
    if bounds is None or order.uses(candidate.proto)[value] != len(nodes):
        return False  # a caller reads it, or a subgraph
    return bool(nodes) and all(_within(candidate, node, bounds) for node in nodes)


def _within(candidate: View, node: Any, bounds: tuple[float, float]) -> bool:
    pair = candidate.pair(node) if order.rounds(node, QUANTIZE) else None
    if pair is None or pair[1].dtype.kind not in "iu":
        return False
    kind, (step, zero) = np.iinfo(pair[1].dtype), (x.astype(np.float64) for x in pair)
    low, high = ((end - zero) * step for end in (kind.min, kind.max))
    inside = (low >= bounds[0] - ROUNDED * step) & (high <= bounds[1] + ROUNDED * step)
    return bool(inside.all())


def _tables(made: Any, candidate: View) -> bool:
    """DQ(Gather(table, ids)) becomes Gather(DQ(table), ids), in place; whether there was any."""
    done = False
    for back in list(made.graph.node):
        lookup = candidate.node(back.input[0]) if order.rounds(back, DEQUANTIZE) else None
        if (
            lookup is None
            or lookup.op_type != "Gather"
            or lookup.domain
            or lookup.input[0] not in candidate.constants
            or (pair := candidate.pair(back)) is None
        ):
            continue
        table = f"{back.output[0]}__table"
        inputs, axis = [lookup.input[0], *back.input[1:]], {"axis": 1} if pair[0].size > 1 else {}
        whole = helper.make_node(DEQUANTIZE, inputs, [table], domain=back.domain, **axis)
        copy = made.graph.node.add()
        copy.CopyFrom(lookup)
        copy.input[0], copy.output[0] = table, back.output[0]
        back.CopyFrom(whole)
        done = True
    return done


def reverted(reference: View, candidate: View, chosen: Iterable[Part]) -> Any:
    """The candidate's graph with these parts as the reference has them."""
    made = onnx.ModelProto()
    made.CopyFrom(candidate.proto)
    names = aligned(reference, candidate)
    for part in chosen:
        if part.kind == "activation":
            for value in (part.value, *part.also):
                _bypass(made, candidate, names[value])
        elif part.kind == "weight":
            _weight(made, reference, candidate, part, names[part.value])
        else:
            _node(made, reference, candidate, part.value, names)
    _sort(made)
    return made


def _bypass(made: Any, candidate: View, form: str) -> None:
    """Whoever reads what came back from int8 reads the value itself."""
    backs = {back.output[0] for _, back in pairs(candidate, form)}
    for node in made.graph.node:
        for slot, name in enumerate(node.input):
            if name in backs:
                node.input[slot] = form
    for output in made.graph.output:
        if output.name in backs:
            for node in made.graph.node:
                if output.name in node.output:
                    node.output[0] = f"{output.name}__was"
            made.graph.node.append(helper.make_node("Identity", [form], [output.name]))


def _weight(made: Any, reference: View, candidate: View, part: Part, form: str) -> None:
    original = reference.node(part.value)
    assert original is not None
    node = made.graph.node[candidate.makers[form]]
    kind = candidate.dtypes.get(node.input[part.slot], 0)
    node.input[part.slot] = _constant(made, reference, original.input[part.slot], kind)


def _constant(made: Any, reference: View, name: str, kind: int = 0) -> str:
    """The reference's constant, under a name that the candidate does not have, and in its 16-bit `kind`."""
    marked = f"{name}{MARK}{HALVES.get(kind, '')}"
    if name in reference.constants and marked not in {t.name for t in made.graph.initializer}:
        constant = made.graph.initializer.add()
        constant.CopyFrom(reference.constants[name])
        if kind in HALVES:
            values = numpy_helper.to_array(constant)
            half = values.astype(helper.tensor_dtype_to_np_dtype(kind))
            constant.CopyFrom(numpy_helper.from_array(half))
        constant.name = marked
    return marked


def _node(
    made: Any, reference: View, candidate: View, value: str, names: Mapping[str, str]
) -> None:
    """Compute the value as the reference does, from the candidate's own values before it."""
    nodes, sources = between(reference, value, names)
    renamed = {s: _float(made, candidate, names[s], s) for s in sources}
    inner = {o for i in nodes for o in reference.proto.graph.node[i].output}
    for name in {n for i in nodes for n in order.reads(reference.proto.graph.node[i])}:
        if name in reference.constants and name not in inner:
            renamed[name] = _constant(made, reference, name)
    renamed |= {n: f"{n}{MARK}" for n in inner if n}
    form = names[value]
    for node in made.graph.node:
        for i, name in enumerate(node.output):
            if name == form:
                node.output[i] = f"{form}__was"
    for i in nodes:
        copy = made.graph.node.add()
        copy.CopyFrom(reference.proto.graph.node[i])
        copy.name = f"{copy.name}{MARK}" if copy.name else ""  # two of one name are refused
        _rename(copy, renamed)
    kind, last = candidate.dtypes.get(form), [f"{value}{MARK}"]
    whole = helper.make_node("Identity", last, [form])
    half = kind in HALVES
    made.graph.node.append(helper.make_node("Cast", last, [form], to=kind) if half else whole)


def _rename(node: Any, renamed: Mapping[str, str]) -> None:
    """In a node, and in what its subgraphs read from outside of them."""
    node.input[:] = [renamed.get(n, n) for n in node.input]
    node.output[:] = [renamed.get(n, n) for n in node.output]
    for attribute in node.attribute:
        for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            own = {o for n in inner.node for o in n.output} | {t.name for t in inner.initializer}
            outer = {k: v for k, v in renamed.items() if k not in own}
            for one in inner.node:
                _rename(one, outer)
            for output in inner.output:
                output.name = outer.get(output.name, output.name)


def _float(made: Any, candidate: View, form: str, name: str) -> str:
    """The candidate's value in float32: itself, or a cast of its 16-bit form."""
    if candidate.dtypes.get(form) not in HALVES:
        return form
    out = f"{name}__up{MARK}"
    if not any(out in n.output for n in made.graph.node):
        made.graph.node.append(helper.make_node("Cast", [form], [out], to=TensorProto.FLOAT))
    return out


def _sort(made: Any) -> None:
    """Each node behind what makes its inputs; what leads to no output is left out."""
    makers = {o: i for i, n in enumerate(made.graph.node) for o in n.output if o}
    kept: list[int] = []
    done: set[int] = set()
    left = [(makers[o.name], False) for o in reversed(made.graph.output) if o.name in makers]
    while left:  # depth first, without recursion: graphs are deep
        index, ready = left.pop()
        if ready:
            kept.append(index)
        elif index not in done:
            done.add(index)
            left.append((index, True))
            reads = order.reads(made.graph.node[index])
            left += [(makers[n], False) for n in reads if n in makers]
    nodes = [onnx.NodeProto.FromString(made.graph.node[i].SerializeToString()) for i in kept]
    made.graph.ClearField("node")
    made.graph.node.extend(nodes)
    made.graph.ClearField("value_info")


def arrays_of(reference: View, candidate: View, part: Part) -> tuple[Any, Any]:
    """A weight part's constant, in the reference and as the candidate computes with it."""
    original = reference.node(part.value)
    now = candidate.node(aligned(reference, candidate)[part.value])
    assert original is not None
    assert now is not None
    tensor = reference.constants[original.input[part.slot]]
    return numpy_helper.to_array(tensor), candidate.array(now.input[part.slot])
