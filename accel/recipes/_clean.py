"""Graph clean-up: nodes whose removal cannot change a bit of any output.

Identity(x) -> x;  f(x), f(x) -> f(x) once;  equal initializers -> one;  what nothing reads -> gone.
"""

from __future__ import annotations

from typing import Any

import onnx_ir
from onnx_ir.passes import Sequential, common

from accel import graph, sound
from accel.errors import CandidateBroken
from accel.plain import flat
from accel.recipes._quiet import quiet

DRAWN = ("RandomUniform", "RandomNormal", "RandomUniformLike", "RandomNormalLike", "Multinomial")
KEPT = "accel.kept"  # the domain of nodes that a pass is not to see


def clean(proto: Any) -> tuple[Any, str]:
    """The smaller graph, and "534 to 331 nodes"; or the same graph, and why it is not cleaned up.

    Arithmetic is left to the runtimes: folding constants here would fix their rounding for every engine alike."""
    try:
        with quiet("ONNX IR's clean-up"):
            made = onnx_ir.to_proto(_passed(proto))
    except CandidateBroken as error:
        return proto, f"no, {flat(error)}"
    told = {v.name: v for v in proto.graph.output}
    for value in made.graph.output:  # one that had a twin has lost its type
        if value.name in told:
            value.CopyFrom(told[value.name])
    if wrong := sound.trouble(made):
        return proto, f"no, ONNX IR's clean-up wrote a graph that is not valid: {flat(wrong)}"
    return made, f"{_nodes(proto)} to {_nodes(made)} nodes"


def _passed(proto: Any) -> Any:
    """The graph behind all passes, in ONNX IR's form."""
    model = onnx_ir.from_proto(proto)
    parts = [model.graph, *(f.graph for f in model.functions.values())]
    hidden = [n for part in parts for n in part.all_nodes() if _gives_out(n, part)]
    for node in hidden:
        node.domain = KEPT
    common.IdentityEliminationPass()(model)
    for node in hidden:
        node.domain = ""
    twins = () if draws(proto) else (common.CommonSubexpressionEliminationPass(),)
    passes = Sequential(
        common.DeduplicateInitializersPass(),  # before twins are looked for: they share weights
        *twins,
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
    )
    return passes(model).model


def _gives_out(node: Any, part: Any) -> bool:
    """Is it an Identity that makes an output of a subgraph of this part? What it reads may be a value of the
    graph around, which ONNX Runtime does not take for an output of the subgraph."""
    is_identity = node.op_type == "Identity" and not node.domain
    return is_identity and node.graph is not part and node.outputs[0].is_graph_output()


def draws(proto: Any) -> bool:
    """Has it operators that give another value each time, which the search for twins does not know?

    It knows DRAWN, but not within a function that is called twice."""
    return any(
        _draws(node) or (proto.functions and node.op_type in DRAWN) for node in graph.walk(proto)
    )


def _draws(node: Any) -> bool:
    if "Dropout" in node.op_type:  # the standard's takes training_mode; ONNX Runtime has others
        return bool(node.domain or any(node.input[2:]))
    return bool(node.op_type == "Bernoulli")


def _nodes(proto: Any) -> int:
    return sum(1 for _ in graph.walk(proto))
