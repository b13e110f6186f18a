"""Scale migration: what is hard to quantize in an activation's channels is moved into the weights.

    x W = (x / s) (s W),     s_j = max|x_j|^alpha / max|W_j|^(1 - alpha)

(SmoothQuant, arXiv 2211.10438.) All products that read one value share its s; a Mul by 1/s is put
in front of them, which engines fold into the rounding behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from accel.qdq import order
from accel.qdq.sites import Site
from accel.sketch import Sketch

LEAST = 1e-5  # of a scale: a channel that is never used has none


def smoothed(
    proto: Any, sites: Sequence[Site], sketches: Mapping[str, Sketch], alpha: float
) -> tuple[Any, dict[str, Sketch]]:
    """The graph with its scales moved, and what is known of each value that is new in it.

    `sites`: what is to be int8. What else reads a value goes on reading it as it is."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    known: dict[str, Sketch] = {}
    behind: dict[str, list[Any]] = {}
    groups = _groups(proto, sites)
    mark = order.mark(proto, ((n, tail) for n in groups for tail in ("__smooth", "__migrated")))
    for name, readers in groups.items():
        sketch = sketches.get(name)
        if sketch is None or sketch.channel_low is None or sketch.channel_high is None:
            continue
        scale = _scale(sketch, _rows(made, readers), alpha)
        if scale is None:
            continue
        for site in readers:
            _multiply(made, site, scale)
        out, by = f"{name}{mark}__smooth", f"{name}{mark}__migrated"
        made.graph.initializer.append(numpy_helper.from_array(1 / scale, by))
        behind[name] = [helper.make_node("Mul", [name, by], [out], out)]
        for site in readers:
            made.graph.node[site.index].input[site.activations[0]] = out
        known[out] = sketch.divided(scale)
    order.insert(made, (), behind)
    return made, known


def _groups(proto: Any, sites: Sequence[Site]) -> dict[str, list[Site]]:
    """Value -> the products by a matrix that read it, where they are all that is quantized of it."""
    uses = order.uses(proto)
    found: dict[str, list[Site]] = {}
    other: set[str] = set()
    for site in sites:
        node = proto.graph.node[site.index]
        for slot in site.activations:
            if _matrix(node, site) and site.weight and uses[site.weight.name] == 1:
                found.setdefault(node.input[slot], []).append(site)
            else:
                other.add(node.input[slot])
    return {name: readers for name, readers in found.items() if name not in other}


def _matrix(node: Any, site: Site) -> bool:
    """Do channels stand last in its activation, and its weight's first factor is a channel each?"""
    left = site.weight is not None and site.weight.slot == 1
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return left and not turned and node.op_type in ("MatMul", "Gemm")


def _channel_axis(node: Any, dims: int) -> int:
    """Of a weight: the axis that the activation's channels meet."""
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return 1 if turned else dims - 2


def _rows(made: Any, readers: Sequence[Site]) -> NDArray[Any] | None:
    """The largest |W_j| of each channel over all readers, [channels]; None where they differ in size."""
    tensors = {t.name: t for t in made.graph.initializer}
    found = []
    for site in readers:
        if site.weight is not None:
            size = np.abs(numpy_helper.to_array(tensors[site.weight.name]))
            axis = _channel_axis(made.graph.node[site.index], size.ndim)
            found.append(size.max(axis=tuple(i for i in range(size.ndim) if i != axis)))
    return np.max(found, axis=0) if len({len(f) for f in found}) == 1 else None


def _scale(sketch: Sketch, rows: NDArray[Any] | None, alpha: float) -> NDArray[np.float32] | None:
    if rows is None or sketch.channel_low is None or sketch.channel_high is None:
        return None
    size = np.maximum(-sketch.channel_low, sketch.channel_high)
    if len(size) != len(rows):
        return None
    used = (size > 0) & (rows > 0)
    scale = np.where(
        used, np.maximum(size, LEAST) ** alpha / np.maximum(rows, LEAST) ** (1 - alpha), 1
    )
    return np.maximum(scale, LEAST).astype(np.float32)


def _multiply(made: Any, site: Site, scale: NDArray[np.float32]) -> None:
    """s W, in place."""
    assert site.weight is not None
    tensor = next(t for t in made.graph.initializer if t.name == site.weight.name)
    weight = numpy_helper.to_array(tensor)
    axis = _channel_axis(made.graph.node[site.index], weight.ndim)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    tensor.CopyFrom(numpy_helper.from_array(weight * scale.reshape(shape), tensor.name))
