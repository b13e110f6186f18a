"""Write Q/DQ pairs and int8 weights into a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from accel.qdq import numbers, order, weights
from accel.qdq.numbers import Steps
from accel.qdq.place import Placing, tensors
from accel.sketch import Sketch

Range = tuple[float, float]
TAILS = ("__scale", "__zero", "__int8", "__float", "__Q", "__DQ")


@dataclass(frozen=True)
class How:
    """What the engine wants of the pairs."""

    activations: Steps
    weights: Steps
    per_channel: bool = True
    bias: bool = False  # int32 biases, as ONNX Runtime's kernels want them
    dedicated: bool = False  # a pair for each reader: TensorRT does not share them
    zeroless: bool = False  # every zero point is 0: int8, and uint8 for what is never negative

    def steps(self, low: float) -> Steps:
        """The type of an activation that is never below `low`."""
        if not self.zeroless:
            return self.activations
        return Steps(signed=low < 0, symmetric=low < 0)


def written(
    proto: Any,
    placing: Placing,
    ranges: Mapping[str, Range],
    how: How,
    means: Mapping[str, Sketch] | None = None,
) -> Any:
    """A new graph. `means`: of the activations, where biases are to be corrected.

    Raises KeyError for a value whose range is not known."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    scales: dict[str, float] = {}
    behind: dict[str, list[Any]] = {}  # value -> nodes that follow its maker
    quantized = tensors(proto, placing)
    pairs = [(name, tail) for name in quantized for tail in TAILS]
    mark = order.mark(proto, [*pairs, *weights.names(proto, placing.products)])
    for name, edges in quantized.items():
        scale, zero = numbers.of_range(*ranges[name], how.steps(ranges[name][0]))
        scales[name] = float(scale)
        made.graph.initializer.extend(_constants(f"{name}{mark}", scale, zero))
        for k, group in enumerate([[e] for e in edges] if how.dedicated else [edges]):
            pair, out = _pair(name, f"{name}{mark}", "" if not k else f"_{k}")
            behind.setdefault(name, []).extend(pair)
            for index, slot in group:
                made.graph.node[index].input[slot] = out
    wanted = weights.Wanted(scales, how.weights, how.per_channel, how.bias, means or {}, mark)
    first = weights.written(made, proto, placing.products, wanted)
    order.insert(made, first, behind)
    order.drop_unread(made)
    return made


def _constants(name: str, scale: Any, zero: Any) -> list[Any]:
    return [
        numpy_helper.from_array(np.asarray(scale), f"{name}__scale"),
        numpy_helper.from_array(np.asarray(zero), f"{name}__zero"),
    ]


def _pair(value: str, name: str, number: str) -> tuple[list[Any], str]:
    quantized, back = f"{name}__int8{number}", f"{name}__float{number}"
    constants = [f"{name}__scale", f"{name}__zero"]
    return [
        helper.make_node("QuantizeLinear", [value, *constants], [quantized], f"{name}__Q{number}"),
        helper.make_node(
            "DequantizeLinear", [quantized, *constants], [back], f"{name}__DQ{number}"
        ),
    ], back
