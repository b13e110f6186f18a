"""Graph clean-up: nodes whose removal cannot change a bit of any output.

Identity(x) -> x;  f(x), f(x) -> f(x) once;  equal initializers -> one;  what nothing reads -> gone.
"""

from __future__ import annotations

from typing import Any

import onnx_ir
from onnx_ir.passes import Sequential, common

from accel import graph
from accel.recipes._quiet import quiet


def clean(proto: Any) -> tuple[Any, str]:
    """The smaller graph, and "534 to 331 nodes". Arithmetic is left to the runtimes: folding
    constants here would fix their rounding for every engine alike."""
    passes = Sequential(
        common.IdentityEliminationPass(),
        common.DeduplicateInitializersPass(),  # before twins are looked for: they share weights
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
    )
    with quiet("ONNX IR's clean-up"):
        made = onnx_ir.to_proto(passes(onnx_ir.from_proto(proto)).model)
    told = {v.name: v for v in proto.graph.output}
    for value in made.graph.output:  # one that had a twin has lost its type
        if value.name in told:
            value.CopyFrom(told[value.name])
    return made, f"{_nodes(proto)} to {_nodes(made)} nodes"


def _nodes(proto: Any) -> int:
    return sum(1 for _ in graph.walk(proto))
