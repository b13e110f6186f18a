"""float16 between the int8 products of a graph of Q/DQ pairs, where an engine computes as it is told.

TensorRT's networks are strongly typed: what stands between two products runs in the type that the graph
says, and so do a product's output and its bias. QuantizeLinear and DequantizeLinear take float16 from
opset 19 on, with a scale of the same type, which rounds it by 2^-11: far less than a step of int8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import numpy_helper

from accel.recipes import _float16, _halves, _kept, _ranges
from accel.recipes._halves import Floats
from accel.sketch import Sketch

OPSET = 19
SPREAD = (
    256.0  # int8 and uint8, with their zero points: a dequantized value is at most so many steps
)


def written(made: Any, known: Mapping[str, Sketch]) -> tuple[Any, dict[str, str]]:
    """The graph of `made`, whose float values are `known` by name, and facts for the table.

    What is of unknown size stays float32, and so do ports, what sums or takes
    exponentials, and what leads to an integer or an angle."""
    found = _halves.read(made)
    constants = _ranges.of_constants(found.constants)
    tops = {name: top for name, (top, _) in constants.items()}
    tops |= _tops(found, known, tops)
    halves, kept = _float16.judged(found, tops, _float16.vanishing(constants), _kept.SENSITIVE)
    facts = {"fp16": f"{len(halves)} of {len(found.nodes)} nodes"}
    if kept:
        facts["kept in fp32"] = _kept.reasons(kept)
    return _halves.write(found, halves), facts


def _tops(
    found: Floats, known: Mapping[str, Sketch], constants: Mapping[str, float]
) -> dict[str, float]:
    """value -> the largest magnitude; inf where nothing is known."""
    tops: dict[str, float] = {}
    integers = {t.name: t for t in found.proto.graph.initializer}
    for _, node in found.nodes:
        if node.op_type == "DequantizeLinear":
            tops[node.output[0]] = _steps(integers.get(node.input[0])) * constants.get(
                node.input[1], np.inf
            )
    for name in found.values:
        seen = known.get(name)
        if seen is not None and seen.count and not seen.strange:
            tops[name] = max(abs(seen.low), abs(seen.high))
        else:
            tops.setdefault(name, np.inf)
    return tops


def _steps(weight: Any) -> float:
    """The most steps from zero: of a weight, those that it has."""
    if weight is None:
        return SPREAD
    return float(np.abs(numpy_helper.to_array(weight).astype(np.int32)).max(initial=0))
