"""Embedding tables as int8: a row is looked up, then scaled, by a scale for each of its columns.

Most of a small language model is its table. The lookup moves a quarter of the bytes, and nothing is
computed in int8: what is lost is the rounding of the table alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from accel.qdq import numbers, order
from accel.qdq.numbers import Steps

LEAST = 1 << 16  # numbers: a smaller table is not worth two more nodes
TAILS = ("__int", "__scale", "__zero")
STEPS = Steps(signed=True, symmetric=True)


def tables(proto: Any) -> tuple[str, ...]:
    """Initializers that are looked up by rows, by Gather nodes alone."""
    sizes = {
        t.name: t.dims
        for t in proto.graph.initializer
        if t.data_type == TensorProto.FLOAT and len(t.dims) == 2 and np.prod(t.dims) >= LEAST
    }
    looked_up = {n.input[0] for n in proto.graph.node if _by_rows(n)}
    others = {
        name
        for node in proto.graph.node
        for name in (list(order.reads(node))[1:] if _by_rows(node) else order.reads(node))
    }
    outputs = {v.name for v in proto.graph.output}
    return tuple(n for n in sizes if n in looked_up and n not in others | outputs)


def _by_rows(node: Any) -> bool:
    return node.op_type == "Gather" and not any(a.name == "axis" and a.i for a in node.attribute)


def quantize(made: Any, left: Collection[str] = ()) -> tuple[str, ...]:
    """Change the tables of `made` to int8, but for those named in `left`; the names of the changed."""
    chosen = [name for name in tables(made) if name not in left]
    known = {t.name: t for t in made.graph.initializer}
    behind: dict[str, list[Any]] = {}
    outputs = [n.output[0] for n in made.graph.node if _by_rows(n) and n.input[0] in chosen]
    tails = [(o, tail) for o in outputs for tail in ("__rows", "__rows__DQ")]
    mark = order.mark(made, [*tails, *((n, tail) for n in chosen for tail in TAILS)])
    for name in chosen:
        table, title = numpy_helper.to_array(known[name]), f"{name}{mark}"  # [rows, columns]
        whole, scale, zero = numbers.of_weight(table, 1, STEPS)
        parts = {f"{title}__int": whole, f"{title}__scale": scale, f"{title}__zero": zero}
        made.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in parts.items())
        for node in made.graph.node:
            if _by_rows(node) and node.input[0] == name:
                out, rows = node.output[0], f"{node.output[0]}{mark}__rows"
                node.input[0], node.output[0] = f"{title}__int", rows
                constants = [f"{title}__scale", f"{title}__zero"]
                behind[rows] = [
                    helper.make_node(
                        "DequantizeLinear", [rows, *constants], [out], f"{rows}__DQ", axis=-1
                    )
                ]
    order.insert(made, (), behind)
    order.drop_unread(made)
    return tuple(chosen)
