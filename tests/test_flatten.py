"""What recipes read: bodies of functions in their nodes' place, and weights as initializers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from accel import flatten, graph

OWN = '<domain: "my", opset_import: ["" : 17, "my" : 1]>'
HEAD = f"""<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
g (float[2] x) => (float[2] y) {{ y = my.LAST(x) }}
{OWN} f0 (x) => (y) {{ y = Neg(x) }}"""
X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
CALLS = """<ir_version: 8, opset_import: ["" : 17, "accel.kernels" : 1, "my" : 1]>
g (float[2,4] x, bool c) => (float[2,4] y) <float[4] h__1 = {1, 2, 3, 4}> {
  a = my.act(x)
  b = Add(a, h__1)
  y = If (c) <
    then_branch = t () => (float[2,4] p) { p = my.act(b) },
    else_branch = e () => (float[2,4] q) { q = Neg(b) }
  >
}
<domain: "accel.kernels", opset_import: ["" : 17]> kernel (x) => (y) { y = Softmax(x) }
<domain: "my", opset_import: ["" : 17, "accel.kernels" : 1]>
act (x) => (y) { h = accel.kernels.kernel(x) y = Neg(h) }"""
OLDER = """<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
g (float[2,4] x) => (float[2,4] y) { h = Neg(x) y = my.act(h) }
<domain: "my", opset_import: ["" : 16]> act (x) => (y) { y = Softmax(x) }"""
PRIVATE = """<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
g (float[2,4] x) => (float[2,4] y) { y = my.act(x) }
<domain: "my", opset_import: ["com.microsoft" : 1]> act (x) => (y) { y = com.microsoft.Gelu(x) }"""


def _answer(proto: Any, **feed: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers)
    return session.run(None, {"x": X, **feed})[0]


def _dense(proto: Any, folder: Path) -> Any:
    onnx.save(proto, folder / "model.onnx")
    return graph.dense(folder / "model.onnx")


def test_calls_become_what_they_call_but_for_kernels(tmp_path: Path) -> None:
    """In branches too, under names that no weight has; a kernel's node is one that an engine may run."""
    proto = parser.parse_model(CALLS)
    made = _dense(proto, tmp_path)
    assert [f.name for f in made.functions] == ["kernel"]
    assert {n.op_type for n in graph.walk(made)} == {"kernel", "Neg", "Add", "If", "Softmax"}
    for way in (True, False):
        c = np.array(way)
        np.testing.assert_array_equal(_answer(made, c=c), _answer(proto, c=c))


@pytest.mark.parametrize("text", [OLDER, PRIVATE])
def test_a_function_of_other_opsets_is_put_in_its_place_too(text: str, tmp_path: Path) -> None:
    """Of an older one, and of com.microsoft, which the function alone imports."""
    proto = parser.parse_model(text)
    made = _dense(proto, tmp_path)
    assert not made.functions
    np.testing.assert_allclose(_answer(made), _answer(proto), rtol=1e-6)


def test_functions_that_cannot_be_inlined_stay(tmp_path: Path) -> None:
    """Of another opset, in a branch: onnx knows no types there."""
    text = CALLS.replace('"my", opset_import: ["" : 17', '"my", opset_import: ["" : 16')
    made = _dense(parser.parse_model(text), tmp_path)
    assert flatten.called(made) == ["my.act"]
    np.testing.assert_array_equal(
        _answer(made, c=np.array(True)), _answer(parser.parse_model(text), c=np.array(True))
    )


def test_what_would_have_no_end_stays_as_it_is() -> None:
    """Forty functions, each of which calls the one before twice; thousands, each of which calls one."""
    for count, calls in ((40, 2), (3000, 1)):
        text = HEAD.replace("LAST", f"f{count - 1}")
        for i in range(1, count):
            inner = " ".join(f"y{j} = my.f{i - 1}(x)" for j in range(calls))
            text += f"{OWN} f{i} (x) => (y0) {{ {inner} }}"
        proto = parser.parse_model(text)
        assert flatten.inlined(proto) is proto


def test_as_many_nodes_as_a_model_may_have_are_written_out() -> None:
    """Seven functions, each of which calls the one before twice, are 64 nodes."""
    text = HEAD.replace("LAST", "f6")
    for i in range(1, 7):
        text += f"{OWN} f{i} (x) => (y) {{ h = my.f{i - 1}(x) y = my.f{i - 1}(h) }}"
    assert len(flatten.inlined(parser.parse_model(text)).graph.node) == 64


def _constant(ir_version: int) -> Any:
    """y = x w + b, both of Constant nodes."""
    w, b = (
        numpy_helper.from_array(np.random.default_rng(i).normal(size=s).astype(np.float32))
        for i, s in enumerate([(4, 4), (4,)])
    )
    nodes = [
        helper.make_node("Constant", [], ["w"], value=w),
        helper.make_node("Constant", [], ["b"], value=b),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["y"]),
    ]
    ports = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 4])] for n in "xy")
    body = helper.make_graph(nodes, "g", *ports)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(body, opset_imports=opsets, ir_version=ir_version)


@pytest.mark.parametrize(("ir_version", "weights"), [(8, ["w"]), (3, [])])
def test_a_products_constant_becomes_an_initializer(
    ir_version: int, weights: list[str], tmp_path: Path
) -> None:
    """Where that need not be an input, too; a constant that is added stays where it was."""
    proto = _constant(ir_version)
    made = _dense(proto, tmp_path)
    assert [t.name for t in made.graph.initializer] == weights
    assert sum(n.op_type == "Constant" for n in made.graph.node) == 2 - len(weights)
    np.testing.assert_array_equal(_answer(made), _answer(proto))
