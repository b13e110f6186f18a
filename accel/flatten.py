"""A graph in the form that recipes read: nodes where a call of a function stood, weights as initializers.

y = act(x), act(x) = Relu(x)   ->   y = Relu(x)
MatMul(x, Constant(w))         ->   MatMul(x, w)
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from accel import tensors

KERNELS = "accel.kernels"  # functions that an engine may run as one node each: they stay
OWN_IR = 4  # initializers need not be inputs since then
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather")
MOST_NODES = 500_000  # as of any graph that is read (accel.sound)
FLOAT = 1  # onnx.TensorProto.FLOAT


def inlined(proto: Any, keep: str | None = KERNELS) -> Any:
    """The model with the bodies of its functions in their nodes' place, but for those of the domain `keep`;
    as it is where onnx cannot, such as with a function of another opset in a branch, or where that is too long."""
    import onnx.inliner

    if not called(proto, keep) or _beyond(proto):
        return proto
    light = onnx.ModelProto()  # onnx copies it: of weights it sees types, and names that are taken
    light.CopyFrom(proto)
    light.ClearField("functions")
    light.functions.extend(f for f in proto.functions if f.domain != keep)
    light.graph.ClearField("initializer")
    light.graph.initializer.extend(
        onnx.TensorProto(name=t.name, data_type=t.data_type, dims=t.dims)
        for t in proto.graph.initializer
    )
    for convert in (False, True):  # the second for functions of another opset: it needs types
        with contextlib.suppress(Exception):  # C++ exceptions without a type
            known = onnx.shape_inference.infer_shapes(light) if convert else light
            made = onnx.inliner.inline_local_functions(known, convert_version=convert)
            if not made.functions:
                made.graph.ClearField("initializer")
                made.graph.initializer.extend(proto.graph.initializer)
                made.functions.extend(f for f in proto.functions if f.domain == keep)
                return made
    return proto


def called(proto: Any, keep: str | None = KERNELS) -> list[str]:
    """The model's functions outside of the domain `keep`."""
    return [f"{f.domain}.{f.name}" for f in proto.functions if f.domain != keep]


def _beyond(proto: Any) -> bool:
    """Would it be more nodes than any model has? Forty functions that call each other twice are 2^40."""
    bodies = {(f.domain, f.name): f.node for f in proto.functions}

    @functools.cache
    def length(name: tuple[str, str]) -> int:
        return _length(bodies[name]) if name in bodies else 1

    def _length(nodes: Any) -> int:
        inner = (g for n in nodes for a in n.attribute for g in tensors.bodies(a))
        return sum(length((n.domain, n.op_type)) for n in nodes) + sum(
            _length(g.node) for g in inner
        )

    try:
        return _length(proto.graph.node) > MOST_NODES
    except RecursionError:  # a thousand functions, each within the next
        return True


def lift(proto: Any) -> None:
    """Make float Constants of the main graph that a product or a lookup reads its initializers, in place."""
    read = {x for n in proto.graph.node if n.op_type in WEIGHTED for x in n.input}
    nodes = [n for n in proto.graph.node if _is_weight(n) and n.output[0] in read]
    if proto.ir_version < OWN_IR:
        return
    for node in nodes:
        tensor = proto.graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        proto.graph.node.remove(node)


def _is_weight(node: Any) -> bool:
    """Is it a Constant that holds a float tensor as such?"""
    own = node.op_type == "Constant" and not node.domain
    found = own and [a.name for a in node.attribute] == ["value"]
    return found and node.attribute[0].t.data_type == FLOAT
