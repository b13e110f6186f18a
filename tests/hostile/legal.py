"""Graphs that are legal, and that tools of this kind refuse: all of them are accepted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.hostile.case import Case, X, Y, body, dense, graph, model, node, relu, truth, weight
from tests.hostile.structures import nested
from tests.legality.building import B, F

I64, HALF, BRAIN = TensorProto.INT64, TensorProto.FLOAT16, TensorProto.BFLOAT16
NEWEST = onnx.defs.onnx_opset_version()
IRS = (
    (10, 5),
    (11, 6),
    (13, 7),
    (15, 8),
    (19, 9),
    (21, 10),
    (23, 11),
)  # opset, and the IR it came with
CHAIN = 5000


def cases() -> Iterator[Case]:
    """Each is inspected, and says what it was built of."""
    for opset in range(7, 24):
        for name, proto, said in _of(opset):
            yield Case(f"{name} of opset {opset}", graph(proto), "accept", (said,))
    yield Case("the newest opset", graph(relu(opset=NEWEST, ir=onnx.IR_VERSION)), "accept", (str(NEWEST),))  # fmt: skip
    for name, proto, edit, said in _odd():
        yield Case(name, graph(proto, edit), "accept", (said,))
    yield Case("5,000 nodes in a chain", graph(chain(CHAIN)), "accept", ("'Relu': 5000",))


def chain(length: int) -> Any:
    """relu(relu(... x)), the nodes without names."""
    names = ["x", *(f"h{i}" for i in range(1, length)), "y"]
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)]
    return model(nodes, [X], [Y])


def _model(opset: int, *parts: Any, **more: Any) -> Any:
    older = [ir for version, ir in IRS if version <= opset]
    return model(*parts, opset=opset, ir=max(older, default=4), **more)


def _of(opset: int) -> Iterator[tuple[str, Any, str]]:
    """What that opset has of the kinds that are asked for."""
    plain = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    yield "no node names", _model(opset, plain, [X], [Y], [weight("w", np.ones((4, 4)))]), "Relu"
    yield "If", _model(opset, [_if()], [X, truth()], [Y]), "'If': 1"
    yield "Loop", _loop(opset), "'Loop': 1"
    yield "LSTM", _lstm(opset), "'LSTM': 1"
    if opset >= 8:
        yield "Scan", _scan(opset), "'Scan': 1"
    if opset >= 10:
        yield "NonMaxSuppression", _nms(opset), "'NonMaxSuppression': 1"
    if opset >= 11:
        yield "sequences", _sequences(opset), "'SequenceAt': 1"
    if opset >= 15:
        yield "local functions", _functions(opset), "own.outer"
        yield "optional types", _optional(opset), "'OptionalHasElement': 1"


def _if() -> Any:
    branches = [
        body([helper.make_node(operator, ["x"], [out])], [], [(out, F, [2, 4])])
        for operator, out in (("Relu", "t"), ("Abs", "e"))
    ]
    return helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])


def _loop(opset: int) -> Any:
    """A carried value and a scan output, five times."""
    inner = body(
        [node("Identity", "go", "on"), node("Relu", "v", "w"), node("Identity", "w", "s")],
        [("i", I64, []), truth("go"), ("v", F, [2, 4])],
        [truth("on"), ("w", F, [2, 4]), ("s", F, [2, 4])],
    )
    weights = [weight("n", 5, "int64"), weight("yes", True, "bool")]
    loop = helper.make_node("Loop", ["n", "yes", "x"], ["y", "all"], body=inner)
    return _model(opset, [loop], [X], [Y, ("all", F, [5, 2, 4])], weights)


def _scan(opset: int) -> Any:
    """A running sum over rows; opset 8 has a batch in front of it."""
    inner = body(
        [node("Add", "sum row", "next"), node("Identity", "next", "out")],
        [("sum", F, [4]), ("row", F, [4])],
        [("next", F, [4]), ("out", F, [4])],
    )
    batch = [1] if opset == 8 else []
    ports = [("s", F, [*batch, 4]), ("x", F, [*batch, 2, 4])]
    outs = [("t", F, [*batch, 4]), ("y", F, [*batch, 2, 4])]
    given = ["", "s", "x"] if opset == 8 else ["s", "x"]
    scan = helper.make_node("Scan", given, ["t", "y"], body=inner, num_scan_inputs=1)
    return _model(opset, [scan], ports, outs)


def _lstm(opset: int) -> Any:
    sizes = {"w": (1, 12, 4), "r": (1, 12, 3)}
    weights = [weight(name, np.ones(shape)) for name, shape in sizes.items()]
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["", "h", "c"], hidden_size=3)
    outs = [("h", F, [1, 2, 3]), ("c", F, [1, 2, 3])]
    return _model(opset, [lstm], [("x", F, [5, 2, 4])], outs, weights)


def _nms(opset: int) -> Any:
    nms = helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou"], ["y"])
    ports = [("boxes", F, [1, 6, 4]), ("scores", F, [1, 2, 6])]
    weights = [weight("most", [3], "int64"), weight("iou", [0.5])]
    return _model(opset, [nms], ports, [("y", I64, ["kept", 3])], weights)


def _sequences(opset: int) -> Any:
    """A sequence goes in, another comes out."""
    nodes = [
        helper.make_node("SequenceInsert", ["given", "x"], ["longer"]),
        helper.make_node("SequenceAt", ["longer", "at"], ["y"]),
    ]
    made = _model(opset, nodes, [X], [("y", F, ["rows", "columns"])], [weight("at", 0, "int64")])
    made.graph.input.append(helper.make_tensor_sequence_value_info("given", F, None))
    made.graph.output.append(helper.make_tensor_sequence_value_info("longer", F, None))
    return made


def _optional(opset: int) -> Any:
    nodes = [
        helper.make_node("OptionalHasElement", ["maybe"], ["there"]),
        helper.make_node("OptionalGetElement", ["maybe"], ["y"]),
    ]
    made = _model(opset, nodes, [], [("there", B, []), Y])
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(F, [2, 4]))
    made.graph.input.append(helper.make_value_info("maybe", kind))
    return made


def _functions(opset: int) -> Any:
    """One calls the other, and hands an attribute on."""
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    inner = helper.make_function("own", "inner", ["a"], ["b"], [leaky], imports, ["slope"])
    call = helper.make_node("inner", ["a"], ["b"], domain="own", slope=0.25)
    outer = helper.make_function("own", "outer", ["a"], ["b"], [call], imports)
    nodes = [helper.make_node("outer", ["x"], ["y"], domain="own")]
    return _model(opset, nodes, [X], [Y], domains=["own"], functions=[inner, outer])


def _odd() -> Iterator[tuple[str, Any, Any, str]]:
    """What onnx's checker refuses and ONNX Runtime runs, and other rare things."""
    gelu = model([node("FastGelu", "x", "y", domain="com.microsoft")], [X], [Y])
    relus = model([node("Relu", "x", "y", domain="ai.onnx")], [X], [Y])
    old = dense(opset=8, ir=3)
    yield "graph without a name", relu(), lambda m: m.graph.ClearField("name"), "Relu"
    yield "input without a shape", relu(), lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "input x"  # fmt: skip
    yield "output without a shape", relu(), lambda m: m.graph.output[0].type.tensor_type.ClearField("shape"), "output y"  # fmt: skip
    yield "output without a type", relu(), lambda m: m.graph.output[0].ClearField("type"), "output y"  # fmt: skip
    yield "com.microsoft not imported", gelu, _same, "com.microsoft.FastGelu"
    yield "domain ai.onnx written out", relus, _same, "Relu"
    yield "opset of ai.onnx written out", relu(), lambda m: setattr(m.opset_import[0], "domain", "ai.onnx"), "ai.onnx"  # fmt: skip
    yield "opset twice and the same", relu(), lambda m: m.opset_import.append(m.opset_import[0]), "17"  # fmt: skip
    yield "weights that are no inputs before IR 4", old, _same, "MatMul"
    yield "metadata key twice", relu(), lambda m: m.metadata_props.extend([onnx.StringStringEntryProto(key="a")] * 2), "Relu"  # fmt: skip
    yield "nested Ifs", nested(28), _same, "'If': 27"
    yield "sparse weights", _sparse(), _same, "MatMul"
    yield "texts", _texts(), _same, "Identity"
    for kind in (HALF, BRAIN):
        port = [("x", kind, [2, 4])], [("y", kind, [2, 4])]
        yield f"ports of type {kind}", model([node("Relu", "x", "y")], *port), _same, "Relu"
    yield "weights of 4 bits", _small(), _same, "DequantizeLinear"
    yield "weight as an output", dense(), lambda m: m.graph.output.append(helper.make_tensor_value_info("w", F, [4, 4])), "output w"  # fmt: skip
    yield "outer name in a branch", _model(17, [node("Abs", "x", "h"), _captured()], [X, truth()], [Y]), _same, "If"  # fmt: skip


def _same(_: Any) -> None:
    """Nothing is changed."""


def _captured() -> Any:
    branches = _if()
    for attribute in branches.attribute:
        attribute.g.node[0].input[0] = "h"
    return branches


def _sparse() -> Any:
    made = model([node("MatMul", "x w", "y")], [X], [Y])
    values, at = weight("w", [1.0, 2.0]), weight("at", [0, 5], "int64")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [4, 4]))
    return made


def _texts() -> Any:
    port: Sequence[Any] = [("x", TensorProto.STRING, [3])], [("y", TensorProto.STRING, [3])]
    return model([node("Identity", "x", "y")], *port)


def _small() -> Any:
    packed = helper.make_tensor("q", TensorProto.INT4, [3], [1, -2, 3])
    nodes = [node("DequantizeLinear", "q s", "d"), node("Add", "x d", "y")]
    ports = [("x", F, [2, 3])], [("y", F, [2, 3])]
    return model(nodes, *ports, [packed, weight("s", 0.5)], opset=21, ir=10)
