"""Sizes that a graph computes: with its inputs bound, Shape is a number, and so is what follows.

    Shape(x) -> Gather -> Add -> Concat -> Reshape(y, ...)

onnx's own inference follows a few operators of such chains (data propagation); here those that it
leaves are run by its reference implementation, and inference goes on from what they give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accel import shapes

MOST = 4096  # elements of a value that sizes are made of: a range over positions is the longest
MOST_FLOATS = 8  # the scales of a Resize
PASSES = 16  # each finds what depends on sizes that the one before found
PICKS = ("Compress", "NonMaxSuppression", "NonZero", "Unique")  # some of what they read: never more
RANDOM = ("RandomNormal", "RandomUniform", "Bernoulli", "Multinomial", "RandomNormalLike")


def infer(proto: Any) -> Any:
    """The model with all the sizes noted that can be told; folded nodes became initializers.

    Raises BadModel where onnx's inference gives up on the whole model."""
    for _ in range(PASSES):
        proto = shapes.inferred(proto, data_prop=True)
        found = dict(_values(proto))
        if not found:
            break
        proto = _replaced(proto, found)
    return proto


def _values(proto: Any) -> Iterator[tuple[str, Any]]:
    """Outputs that can be computed now, in the nodes' order."""
    import onnx

    given = {v.name for v in proto.graph.input}  # a caller may give another value
    known = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in proto.graph.initializer
        if t.name not in given
        and _small(onnx.helper.tensor_dtype_to_np_dtype(t.data_type).kind, t.dims)
    }
    dims = {v.name: _dims(v.type) for v in (*proto.graph.value_info, *proto.graph.input)}
    dims |= {t.name: tuple(t.dims) for t in proto.graph.initializer}
    opsets = {o.domain: o.version for o in proto.opset_import}
    for node in proto.graph.node:
        for name, value in zip(node.output, _run(node, known, dims, opsets), strict=False):
            if name and _small(value.dtype.kind, value.shape):
                known[name] = value
                yield name, value


def _run(
    node: Any, known: Mapping[str, Any], dims: Mapping[str, Any], opsets: Mapping[str, int]
) -> Sequence[Any]:
    """A node's outputs, or nothing where they depend on more than sizes."""
    import numpy as np

    if node.domain or node.op_type in RANDOM or any(_unlike_sizes(a) for a in node.attribute):
        return ()
    if node.op_type in ("Shape", "Size"):
        whole = dims.get(node.input[0])
        return () if whole is None else _evaluated(node, {node.input[0]: _hollow(whole)}, opsets)
    feed = {name: known.get(name) for name in node.input if name}
    if any(value is None for value in feed.values()):
        return ()
    floats = sum(int(np.size(v)) for v in feed.values() if v is not None and v.dtype.kind == "f")
    told = floats <= MOST_FLOATS and _stays_small(node, feed, opsets)
    return _evaluated(node, feed, opsets) if told else ()


def _unlike_sizes(attribute: Any) -> bool:
    """Branches, and windows that slide: these pad by as much as they like before they pick."""
    return attribute.HasField("g") or attribute.name in ("pads", "kernel_shape")


def _stays_small(node: Any, feed: Mapping[str, Any], opsets: Mapping[str, int]) -> bool:
    """Whether no output is beyond what is kept: a Range to 2 ** 40 would take all memory there is."""
    import onnx

    tensors = {name: onnx.numpy_helper.from_array(value) for name, value in feed.items()}
    types = {k: onnx.helper.make_tensor_type_proto(t.data_type, t.dims) for k, t in tensors.items()}
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get("", 1), "")
        found = onnx.shape_inference.infer_node_outputs(schema, node, types, tensors)
    except Exception:  # as below: what nobody can tell stays unknown
        return False
    if node.op_type in PICKS:
        return True
    sizes = [_dims(found[name]) if name in found else None for name in node.output if name]
    return all(dims is not None and math.prod(dims) <= MOST for dims in sizes)


def _hollow(dims: tuple[int, ...]) -> Any:
    """An array of these sizes that takes no memory: Shape reads nothing of it."""
    import numpy as np

    return np.broadcast_to(np.int8(0), dims)


def _evaluated(node: Any, feed: Mapping[str, Any], opsets: Mapping[str, int]) -> Sequence[Any]:
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    try:
        found = ReferenceEvaluator(node, opsets=dict(opsets)).run(None, dict(feed))
    except Exception:  # it raises whatever numpy does; what it cannot do stays unknown
        return ()
    return [np.asarray(v) for v in found] if all(v is not None for v in found) else ()


def _small(kind: str, dims: Sequence[int]) -> bool:
    count = 1
    for size in dims:
        count *= size
    return kind in "iubf" and count <= (MOST_FLOATS if kind == "f" else MOST)


def _dims(of: Any) -> tuple[int, ...] | None:
    kind = of.tensor_type
    known = kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)
    return tuple(d.dim_value for d in kind.shape.dim) if known else None


def _replaced(proto: Any, found: Mapping[str, Any]) -> Any:
    """The model with these values as initializers and without the nodes that made them."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for field in ("node", "value_info"):
        made.graph.ClearField(field)
    made.graph.node.extend(n for n in proto.graph.node if not set(n.output) <= set(found) | {""})
    made.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in found.items()
    )
    return made
