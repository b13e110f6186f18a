"""Products of one value by several matrices as one product: query, key and value of an attention.

    x [W1 W2 W3] + [b1 b2 b3], split again along the last axis

It is the same arithmetic. One wide product fills a machine that a narrow one of few rows does not, and the
value is quantized for one reader. (ONNX Runtime does so in its own Attention operator.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from accel.qdq import order

SPLIT_BY_INPUT = 13  # the opset from which Split takes its sizes as an input (ONNX)


@dataclass(frozen=True)
class _Linear:
    """MatMul by a matrix, and the Add of a vector that alone reads it, if there is one."""

    product: int  # index of the node
    weight: NDArray[Any]  # [K, N]
    add: int | None
    bias: NDArray[Any] | None  # [N]
    output: str


def merged(proto: Any, chosen: Collection[str]) -> tuple[Any, Mapping[str, tuple[str, ...]]]:
    """The graph with those of the `chosen` products (by the node's name) merged that read one value;
    {name of the new product: names of the old ones}."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    names: dict[str, tuple[str, ...]] = {}
    instead: dict[int, list[Any]] = {}  # index of the first node of a group -> the new nodes
    gone: set[int] = set()
    for value, group in _groups(made, chosen).items():
        tag = f"{value}__merged"
        names[tag] = tuple(made.graph.node[one.product].name for one in group)
        instead[min(one.product for one in group)] = _nodes(made, value, tag, group)
        gone |= {i for one in group for i in (one.product, one.add) if i is not None}
    if not names:
        return proto, {}
    kept = [
        node
        for i, old in enumerate(made.graph.node)
        for node in (*instead.get(i, ()), *(() if i in gone else (old,)))
    ]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    made.graph.ClearField("node")
    made.graph.node.extend(copies)
    order.drop_unread(made)
    return made, names


def _groups(proto: Any, chosen: Collection[str]) -> dict[str, list[_Linear]]:
    """Value -> its products, where they are two or more, all with a bias behind them or none."""
    known = {t.name: t for t in proto.graph.initializer}
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(proto.graph.node):
        for name in order.reads(node):
            readers.setdefault(name, []).append(i)
    outputs = {v.name for v in proto.graph.output}
    named = Counter(n.name for n in proto.graph.node)
    found: dict[tuple[str, bool, int], list[_Linear]] = {}
    for i, node in enumerate(proto.graph.node):
        plain = node.op_type == "MatMul" and not node.domain and named[node.name] == 1
        if plain and node.name in chosen and node.input[1] in known and node.input[0] not in known:
            weight = numpy_helper.to_array(known[node.input[1]])
            if weight.ndim == 2:
                one = _linear(proto, i, weight, known, readers, outputs)
                key = (node.input[0], one.add is None, len(weight))
                found.setdefault(key, []).append(one)
    return {value: group for (value, *_), group in found.items() if len(group) > 1}


def _linear(
    proto: Any, index: int, weight: NDArray[Any], known: Mapping[str, Any],
    readers: Mapping[str, list[int]], outputs: Collection[str],
) -> _Linear:  # fmt: skip
    output = proto.graph.node[index].output[0]
    after = readers.get(output, [])
    if len(after) == 1 and output not in outputs and proto.graph.node[after[0]].op_type == "Add":
        add = proto.graph.node[after[0]]
        constant = [n for n in add.input if n in known]
        bias = numpy_helper.to_array(known[constant[0]]) if constant else np.zeros(0)
        if bias.shape == weight.shape[1:]:
            return _Linear(index, weight, after[0], bias, add.output[0])
    return _Linear(index, weight, None, None, output)


def _nodes(made: Any, value: str, tag: str, group: list[_Linear]) -> list[Any]:
    constants = {
        f"{tag}_weight": np.concatenate(
            [one.weight for one in group], axis=1
        ),  # [K, N1 + N2 + ...]
        f"{tag}_sizes": np.asarray([one.weight.shape[1] for one in group], np.int64),
    }
    whole = f"{tag}_sum"
    nodes = [helper.make_node("MatMul", [value, f"{tag}_weight"], [whole], tag)]
    biases = [one.bias for one in group if one.bias is not None]
    if biases:
        constants[f"{tag}_bias"] = np.concatenate(biases)
        nodes.append(helper.make_node("Add", [whole, f"{tag}_bias"], [f"{whole}_b"], f"{tag}_Add"))
        whole = f"{whole}_b"
    made.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    outputs = [one.output for one in group]
    nodes.append(
        helper.make_node("Split", [whole, f"{tag}_sizes"], outputs, f"{tag}_Split", axis=-1)
    )
    return nodes
