"""Weights of which a file holds only what is not zero (ONNX's SparseTensorProto).

Runtimes write them out in full as they load a graph; so does whatever changes weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from accel import tensors
from accel.errors import BadModel
from accel.plain import seen, shown

MOST_BYTES = 2 << 30  # of all, written out: sizes in a header cost nothing, memory does
INT64 = 7  # of onnx.TensorProto's DataType
HIGHEST = 2**63 - 1


def within(part: Any) -> Iterator[Any]:
    """The sparse weights of a graph and of its subgraphs."""
    yield from part.sparse_initializer
    for attribute in (a for node in part.node for a in node.attribute):
        for inner in tensors.bodies(attribute):
            yield from within(inner)


def trouble(sparse: Any) -> str:
    """Why its indices cannot be of its values, in one line; empty where they can. What lies in another
    file is not looked at.

    Indices are [n], of the flat tensor, or [n, rank]; they ascend (ONNX IR, SparseTensorProto)."""
    import numpy as np

    name, sizes = sparse.values.name or "a sparse constant", list(sparse.dims)
    if len(sizes) > tensors.MOST_AXES:
        return f"{name} has {len(sizes)} axes; {tensors.MOST_AXES} are the most"
    count, shape = tensors.count(sparse.values), list(sparse.indices.dims)
    if len(sparse.values.dims) != 1 or not sizes or any(n <= 0 for n in sizes):
        return f"{name} is sparse, of shape {sizes} and values of shape {list(sparse.values.dims)}"
    if sparse.indices.data_type != INT64 or shape not in ([count], [count, len(sizes)]):
        return f"{name} has {count} values at indices of shape {shape}"
    if tensors.beside(sparse.indices):
        return ""
    at = _indices(sparse)
    limits = [tensors.count(sparse)] if at.ndim == 1 else sizes
    rows = at.reshape(count, 1 if at.ndim == 1 else len(sizes))
    if (rows < 0).any() or (rows >= np.array([min(n, HIGHEST) for n in limits])).any():
        return f"{name} has a value outside its shape {sizes}"
    flat = rows[:, 0] if at.ndim == 1 else _flat(rows, sizes)
    return f"{name} has indices that do not ascend" if (flat[1:] <= flat[:-1]).any() else ""


def expand(graph: Any) -> None:
    """Write the sparse weights of a graph, and of its subgraphs, out in full, in place.

    Raises BadModel where they are too large for that."""
    if (wanted := sum(map(_full_bytes, within(graph)))) > MOST_BYTES:
        raise BadModel(
            f"The sparse weights are {seen(wanted)} bytes when written out; at most {MOST_BYTES} are."
        )
    for attribute in (a for node in graph.node for a in node.attribute):
        for inner in tensors.bodies(attribute):
            expand(inner)
    for sparse in graph.sparse_initializer:
        if wrong := trouble(sparse):  # of what lay in another file it could not be told before
            raise BadModel(f"The graph is not valid: {shown(wrong, keep='')}.")
        graph.initializer.append(_full(sparse))
    graph.ClearField("sparse_initializer")


def _full_bytes(sparse: Any) -> int:
    import onnx

    kind = onnx.helper.tensor_dtype_to_np_dtype(sparse.values.data_type)
    return int(tensors.count(sparse) * kind.itemsize)


def _full(sparse: Any) -> Any:
    import numpy as np
    import onnx

    values, sizes = onnx.numpy_helper.to_array(sparse.values), tuple(sparse.dims)
    made, at = np.zeros(tensors.count(sparse), values.dtype), _indices(sparse)
    made[at if at.ndim == 1 else _flat(at, sizes)] = values
    return onnx.numpy_helper.from_array(made.reshape(sizes), sparse.values.name)


def _indices(sparse: Any) -> Any:
    import onnx

    return onnx.numpy_helper.to_array(sparse.indices)


def _flat(rows: Any, sizes: Any) -> Any:
    """Of indices [n, rank]; in Python's numbers where a shape's product is beyond int64."""
    total = rows[:, 0].astype("int64" if math.prod(sizes) <= HIGHEST else object)
    for axis, size in enumerate(sizes[1:], 1):
        total = total * size + rows[:, axis]
    return total
