"""Graph clean-up: smaller, and not a bit different."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from accel.recipes import _clean


def _untidy() -> onnx.ModelProto:
    """y = gelu(x w) + gelu(x w), each half on its own, through identities, beside a dead branch."""
    w = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    nodes = [helper.make_node("Identity", ["x"], ["a"])]
    for i in (1, 2):
        nodes += [
            helper.make_node("MatMul", ["a", f"w{i}"], [f"h{i}"]),
            helper.make_node("Gelu", [f"h{i}"], [f"g{i}"]),
        ]
    nodes += [
        helper.make_node("Relu", ["h1"], ["dead"]),
        helper.make_node("Add", ["g1", "g2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "untidy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(w, "w1"), numpy_helper.from_array(w, "w2")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _run(proto: onnx.ModelProto, x: np.ndarray, **more: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=providers)
    found: np.ndarray = session.run(None, {"x": x, **more})[0]
    return found


def test_clean_up_removes_what_no_output_needs_and_changes_no_bit() -> None:
    """Seven nodes become three: the identity, the twin and the dead branch go."""
    made, said = _clean.clean(_untidy())
    onnx.checker.check_model(made)
    assert said == "7 to 3 nodes"
    x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(_run(made, x), _run(_untidy(), x))


def test_an_output_that_has_a_twin_keeps_its_type() -> None:
    """The twin goes, or its name does; what a caller is told of the output stays."""
    untidy = _untidy()
    untidy.graph.output.append(helper.make_tensor_value_info("g2", TensorProto.FLOAT, ["batch", 4]))
    made, _ = _clean.clean(untidy)
    assert list(made.graph.output) == list(untidy.graph.output)
    assert sum(n.op_type == "Gelu" for n in made.graph.node) == 1


def test_clean_up_is_deterministic() -> None:
    """The same graph gives the same bytes."""
    once, again = (_clean.clean(_untidy())[0].SerializeToString() for _ in range(2))
    assert once == again


HEAD = '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>'
BRANCHES = """
g (float[3,4] x, bool c) => (float[3,4] y) {
  h = Relu(x)
  k = If (c) <
    then_branch = t () => (float[3,4] a) { i = Identity(h) a = Identity(i) },
    else_branch = e () => (float[3,4] b) { b = ELSE(h) }
  >
  y = Add(k, h)
}"""
CALLED = """
g (float[3,4] x, bool c) => (float[3,4] y) { y = my.either(x, c) }
<domain: "my", opset_import: ["" : 17]>
either (x, c) => (y) {
  h = Relu(x)
  k = If (c) <
    then_branch = t () => (float[3,4] a) { a = Identity(h) },
    else_branch = e () => (float[3,4] b) { b = Neg(h) }
  >
  y = Add(k, h)
}"""


@pytest.mark.parametrize(
    "text", [BRANCHES.replace("ELSE", "Neg"), BRANCHES.replace("ELSE", "Identity"), CALLED]
)
@pytest.mark.parametrize("way", [True, False])
def test_a_branch_that_passes_an_outer_value_through_keeps_its_identity(
    text: str, way: bool
) -> None:
    """Without it ONNX Runtime refuses the graph: a subgraph gives out nothing but what it made."""
    proto = parser.parse_model(HEAD + text)
    made, said = _clean.clean(proto)
    assert not said.startswith("no")
    x = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    assert np.array_equal(_run(made, x, c=np.array(way)), _run(proto, x, c=np.array(way)))


def test_a_graph_that_the_clean_up_would_break_stays_as_it_is() -> None:
    """Here an output would give its name to a value that a branch sees, whose own value has that name."""
    shadow = """
    g (float[3,4] x, bool c) => (float[3,4] y, float[3,4] k) {
      h = Relu(x)
      k = If (c) <
        then_branch = t () => (float[3,4] a) { y = Neg(h) a = Abs(y) },
        else_branch = e () => (float[3,4] b) { b = Neg(h) }
      >
      y = Identity(h)
    }"""
    proto = parser.parse_model(HEAD + shadow)
    made, said = _clean.clean(proto)
    assert made is proto
    assert said.startswith("no, ONNX IR's clean-up wrote a graph that is not valid: ")


def test_a_pass_that_fails_leaves_the_graph_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it said is told."""

    def fails(_: object) -> None:
        raise ValueError("Shapes must have\nthe same rank")

    monkeypatch.setattr(_clean, "_passed", fails)
    proto = _untidy()
    made, said = _clean.clean(proto)
    assert made is proto
    assert said == "no, ONNX IR's clean-up failed: ValueError: Shapes must have"


DRAWS = {
    "Bernoulli": "a = Bernoulli(x) b = Bernoulli(x)",
    "RandomUniformLike": "a = RandomUniformLike(x) b = RandomUniformLike(x)",
    "Multinomial": "a = Multinomial(x) b = Multinomial(x)",
    "Dropout": "t = Constant<value: tensor = bool {1}>() a = Dropout(x, , t) b = Dropout(x, , t)",
    "BitmaskDropout": "a, m = com.microsoft.BitmaskDropout(x) b, n = com.microsoft.BitmaskDropout(x)",
    "draw": "a = my.draw(x) b = my.draw(x)",
}


@pytest.mark.parametrize("operator", DRAWS)
def test_two_draws_of_one_value_stay_two(operator: str) -> None:
    """Their difference would be 0 if they were taken for twins, whoever the draw stands with."""
    body = f"g (float[3,4] x) => (y) {{ {DRAWS[operator]} y = Sub(a, b) }}"
    function = """
    <domain: "my", opset_import: ["" : 17]> draw (x) => (y) { y = RandomNormalLike(x) }"""
    made, _ = _clean.clean(parser.parse_model(HEAD + body + function * (operator == "draw")))
    assert sum(n.op_type == operator for n in made.graph.node) == 2


def test_twins_are_found_beside_a_dropout_that_drops_nothing() -> None:
    """Without training_mode it gives what it read."""
    body = "g (float[3,4] x) => (y) { a = Dropout(x) b = Dropout(x) y = Sub(a, b) }"
    made, _ = _clean.clean(parser.parse_model(HEAD + body))
    assert [n.op_type for n in made.graph.node] == ["Dropout", "Sub"]
