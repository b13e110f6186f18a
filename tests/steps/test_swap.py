"""Swap: kernels' operators where the graph computes the same, and a true reason where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import helper

from accel import catalog, graph, testing, workload
from accel import target as targets
from accel.cli import cli
from accel.errors import UsageError
from accel.steps import export
from accel.steps.swap import Swapped, swap
from accel.values import Feed, Model, Request

LEVELS = list(onnxruntime.GraphOptimizationLevel.__members__.values())
TOLERANCE = {"float32": 2e-6, "float16": 4e-3}
SIZES = {"B": 3, "S": 5, "T": 4}
LAYER_NORM = """
  [sum] s = Add(x, r)
  [norm] y = LayerNormalization<axis=-1, epsilon=1e-12>(s, g, b)"""
GELU = """
  [sum] s = Add(x, b)
  [gelu] y = Gelu(s)"""
WRITTEN_OUT = """
  [sum] s = Add(b, x)
  [div] u = Div(s, root)
  [erf] e = Erf(u)
  [one] a = Add(e, one)
  [mul] m = Mul(s, a)
  [half] y = Mul(m, half)"""
HALF_FIRST = """
  [sum] s = Add(x, b)
  [scale] u = Mul(s, inverse)
  [erf] e = Erf(u)
  [one] a = Add(one, e)
  [half] m = Mul(half, s)
  [mul] y = Mul(a, m)"""
HEAD = """
  [mask] c0 = Unsqueeze(mask, last)
  [cast] c = Cast<to=1>(c0)
  [keep] k = Mul(x, c)
  [total] t = ReduceSum<keepdims=0>(k, axis)
  [count] n = ReduceSum<keepdims=0>(c, axis)
  [least] n1 = Clip(n, count)
  [mean] p = Div(t, n1)
  [length] l = ReduceL2<keepdims=1>(p, axis)
  [clip] l1 = Clip(l, norm)
  [result] y = Div(p, l1)"""
FROM_THE_TRACER = HEAD.replace("ReduceL2<keepdims=1>(p, axis)", "ReduceL2<axes=[1]>(p)").replace(
    "[result] y = Div(p, l1)",
    "[shape] h = Shape(p)\n  [expand] l2 = Expand(l1, h)\n  [result] y = Div(p, l2)",
)
EXPANDED_MASK = HEAD.replace(
    "[cast] c = Cast<to=1>(c0)",
    "[of] h = Shape(x)\n  [wide] c1 = Expand(c0, h)\n  [cast] c = Cast<to=1>(c1)",
)
FLOATS = "float[B, S, 8] x, float[B, S, 8] r"
MASKED = "float[B, S, 8] x, int64[B, S] mask"


def numbers(count: int, start: float) -> str:
    return ", ".join(f"{start + 0.1 * (i % 7 - 3):.2f}" for i in range(count))


def model(
    path: Path,
    body: str,
    inputs: str = FLOATS,
    outputs: str = "float[B, S, 8] y",
    opset: int = 23,
    weights: Mapping[str, str] | None = None,
    functions: str = "",
) -> Model:
    """A graph as text, with what the bodies above read as initializers."""
    given = {
        "g": f"float[8] g = {{{numbers(8, 1.0)}}}",
        "b": f"float[8] b = {{{numbers(8, 0.0)}}}",
        "root": "float root = {1.4142135381698608}",
        "inverse": "float inverse = {0.7071067690849304}",
        "one": "float one = {1.0}",
        "half": "float half = {0.5}",
        "count": "float count = {0.000000001}",
        "norm": "float norm = {0.000000000001}",
        "last": "int64[1] last = {-1}",
        "axis": "int64[1] axis = {1}",
        **(weights or {}),
    }
    read = body.replace("(", ",").replace(")", ",").replace(" ", "").split(",")
    kept = ", ".join(text for name, text in given.items() if name in read)
    domains = ', "own" : 1' if functions else ""
    text = (
        f'<ir_version: 10, opset_import: ["" : {opset}{domains}]>\n'
        f"g ({inputs}) => ({outputs}) <{kept}> {{{body}\n}}\n{functions}"
    )
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return graph.describe(path)


def feed(described: Model, seed: int = 0) -> Feed:
    """Normal values; masks of zeros and ones."""
    draw = np.random.default_rng(seed)
    found = {}
    for port in described.inputs:
        shape = [SIZES.get(str(d), d) for d in port.shape]
        if port.dtype in ("int64", "int32", "bool"):
            found[port.name] = (draw.random(shape) < 0.7).astype(port.dtype)
        else:
            found[port.name] = draw.normal(size=shape).astype(port.dtype)
    return found


def run(proto: Any, given: Feed, level: Any = LEVELS[-1]) -> list[Any]:
    """ONNX Runtime's answers."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(given)))


def equal_to_its_inlined_form(
    before: Model, after: Model, given: Feed, levels: Any = LEVELS
) -> None:
    """At every level of optimization: the same bits, and the values of before to within rounding."""
    old, new = onnx.load(before.path), onnx.load(after.path)
    onnx.checker.check_model(new, full_check=True)
    inlined = onnx.inliner.inline_local_functions(new)
    assert not inlined.functions
    assert {n.domain for n in graph.walk(inlined)} == {""}
    for level in levels:
        wanted, found, plain = (run(m, given, level) for m in (old, new, inlined))
        for a, b, c in zip(wanted, found, plain, strict=True):
            assert np.array_equal(b, c), level
            assert b.dtype == a.dtype
            allowed = TOLERANCE[str(a.dtype)]
            np.testing.assert_allclose(b, a, rtol=allowed, atol=allowed)


def nodes(after: Model) -> list[Any]:
    """What was put in."""
    return [n for n in graph.walk(onnx.load(after.path)) if n.domain == "accel.kernels"]


FOUND: dict[str, tuple[str, dict[str, Any]]] = {
    "residual_layernorm": ("residual_layernorm", {"body": LAYER_NORM}),
    "residual_layernorm, the sum an output": (
        "residual_layernorm",
        {"body": LAYER_NORM, "outputs": "float[B, S, 8] y, float[B, S, 8] s", "opset": 17},
    ),
    "residual_layernorm, the sum read before the norm": (
        "residual_layernorm",
        {
            "body": LAYER_NORM.replace("[norm]", "[early] e = Relu(s)\n  [norm]"),
            "outputs": "float[B, S, 8] e, float[B, S, 8] y",
        },
    ),
    "residual_layernorm, the residual repeats": (
        "residual_layernorm",
        {"body": LAYER_NORM, "inputs": "float[1, S, 8] x, float[B, S, 8] r"},
    ),
    "residual_layernorm, float16": (
        "residual_layernorm",
        {
            "body": LAYER_NORM.replace("(x, r)", "(x16, r16)")
            .replace("[sum]", "x16 = Cast<to=10>(x)\n  r16 = Cast<to=10>(r)\n  [sum]")
            .replace("(s, g, b)", "(s, g16, b16)")
            .replace("[norm]", "g16 = Cast<to=10>(g)\n  b16 = Cast<to=10>(b)\n  [norm]"),
            "outputs": "float16[B, S, 8] y",
        },
    ),
    "bias_gelu": ("bias_gelu", {"body": GELU}),
    "bias_gelu, opset 20, tanh": (
        "bias_gelu",
        {"body": GELU.replace("Gelu(", 'Gelu<approximate="tanh">('), "opset": 20},
    ),
    "bias_gelu, written out": ("bias_gelu", {"body": WRITTEN_OUT, "opset": 17}),
    "bias_gelu, written out, at 23": ("bias_gelu", {"body": WRITTEN_OUT}),
    "bias_gelu, half first": ("bias_gelu", {"body": HALF_FIRST, "opset": 17}),
    "bias_gelu, float16": (
        "bias_gelu",
        {
            "body": WRITTEN_OUT,
            "inputs": "float16[B, S, 8] x",
            "outputs": "float16[B, S, 8] y",
            "opset": 17,
            "weights": {  # the parser takes the bits
                "b": "float16[8] b = {15360, 14336, 48128, 0, 11878, 44646, 15360, 14336}",
                "root": "float16 root = {15784}",
                "one": "float16 one = {15360}",
                "half": "float16 half = {14336}",
            },
        },
    ),
    "masked_mean_pool_l2": ("masked_mean_pool_l2", {"body": HEAD}),
    "masked_mean_pool_l2, from the tracer": (
        "masked_mean_pool_l2",
        {"body": FROM_THE_TRACER, "opset": 17},
    ),
    "masked_mean_pool_l2, the mask expanded": ("masked_mean_pool_l2", {"body": EXPANDED_MASK}),
}
for _kernel, _words in FOUND.values():
    if _kernel == "masked_mean_pool_l2":
        _words |= {"inputs": MASKED, "outputs": "float[B, 8] y"}
    elif _kernel == "bias_gelu":
        _words.setdefault("inputs", "float[B, S, 8] x")


@pytest.mark.parametrize(("kernel", "words"), FOUND.values(), ids=FOUND)
def test_it_is_put_in(tmp_path: Path, kernel: str, words: dict[str, Any]) -> None:
    """One node of the kernel and nothing else is left, equal to its inlined form and to before."""
    before = model(tmp_path / "before.onnx", **words)
    found = swap(before, tmp_path / "out")
    assert found.refused == ()
    assert {k: v for k, v in found.sites.items() if v} == {kernel: 1}
    assert found.model.trail[-1] == f"swap: {kernel} 1 of 1"
    assert [p.name for p in found.model.outputs] == [p.name for p in before.outputs]
    left = {n.op_type for n in onnx.load(found.model.path).graph.node} - {"Cast", "Relu"}
    assert left == {catalog.load("kernels", kernel).OP}
    equal_to_its_inlined_form(before, found.model, feed(before))


def test_a_node_says_what_tensorrt_reads(tmp_path: Path) -> None:
    """The plugin's name, version and kind; the constant as the graph had it."""
    before = model(tmp_path / "before.onnx", LAYER_NORM)
    (node,) = nodes(swap(before, tmp_path / "out").model)
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert found.pop("epsilon") == np.float32(1e-12)
    assert found == {"plugin_namespace": b"accel", "plugin_version": b"1", "aot": 1}
    assert list(node.input) == ["x", "r", "g", "b"]
    assert list(node.output) == ["y", "s"]


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "epsilon 1e-03 is not one of those baked into the kernels: 1e-12, 1e-05, 1e-06": (
        "residual_layernorm at norm",
        {"body": LAYER_NORM.replace("1e-12", "1e-3")},
    ),
    "its input is Relu 'sum', not an Add of two tensors": (
        "residual_layernorm at norm",
        {"body": LAYER_NORM.replace("Add(x, r)", "Relu(x)")},
    ),
    "its input is an input of the graph, not an Add of two tensors": (
        "residual_layernorm at norm",
        {"body": "\n  [norm] y = LayerNormalization(x, g, b)"},
    ),
    "it normalises over more than the last axis": (
        "residual_layernorm at norm",
        {
            "body": LAYER_NORM.replace("axis=-1", "axis=1"),
            "inputs": "float[2, 4, 8] x, float[2, 4, 8] r",
            "outputs": "float[2, 4, 8] y",
        },
    ),
    "it has no bias": (
        "residual_layernorm at norm",
        {"body": LAYER_NORM.replace("(s, g, b)", "(s, g)")},
    ),
    "its Mean or InvStdDev is used": (
        "residual_layernorm at norm",
        {
            "body": LAYER_NORM.replace("y = Layer", "y, mean = Layer"),
            "outputs": "float[B, S, 8] y, float[B, S, 1] mean",
        },
    ),
    "its scale or its bias is computed, not a weight": (
        "residual_layernorm at norm",
        {
            "body": LAYER_NORM.replace("[norm]", "[scale] h = Relu(g)\n  [norm]").replace(
                "g, b", "h, b"
            )
        },
    ),
    "its scale and bias, [1] and [8], are not as long as a row, 8": (
        "residual_layernorm at norm",
        {"body": LAYER_NORM, "weights": {"g": "float[1] g = {1.0}"}},
    ),
    "its dtype is float64, not one of float32, float16, bfloat16": (
        "residual_layernorm at norm",
        {
            "body": LAYER_NORM,
            "inputs": "double[B, S, 8] x, double[B, S, 8] r",
            "outputs": "double[B, S, 8] y",
            "weights": {n: f"double[8] {n} = {{{numbers(8, 1.0)}}}" for n in "gb"},
        },
    ),
    "it adds [B, S, 8] and [B, 1, 8]: neither is known to repeat over leading axes of the other": (
        "residual_layernorm at norm",
        {"body": LAYER_NORM, "inputs": "float[B, S, 8] x, float[B, 1, 8] r"},
    ),
    "it adds [B, S, 8] and [B, T, 8]: neither is known to repeat over leading axes of the other": (
        "residual_layernorm at norm",
        {"body": LAYER_NORM, "inputs": "float[B, S, 8] x, float[B, T, 8] r"},
    ),
    "it adds [B, S, 8] and [1]: neither is known to repeat over leading axes of the other": (
        "residual_layernorm at norm",
        {"body": LAYER_NORM, "inputs": "float[B, S, 8] x, float[1] r"},
    ),
    "its input is Relu 'sum', not an Add of a bias": (
        "bias_gelu at gelu",
        {"body": GELU.replace("Add(x, b)", "Relu(x)")},
    ),
    "it adds [B, S, 8] and [B, S, 8]: neither is a weight as long as a row": (
        "bias_gelu at gelu",
        {"body": GELU.replace("Add(x, b)", "Add(x, r)")},
    ),
    "the sum is used elsewhere": (
        "bias_gelu at gelu",
        {"body": GELU, "outputs": "float[B, S, 8] y, float[B, S, 8] s"},
    ),
    "its constants are not those of a GELU: sqrt(2), 1 and 0.5": (
        "bias_gelu at erf",
        {"body": WRITTEN_OUT, "weights": {"half": "float half = {0.51}"}, "opset": 17},
    ),
    "it is not a GELU's: its input is Sigmoid 'div'": (
        "bias_gelu at erf",
        {"body": WRITTEN_OUT.replace("Div(s, root)", "Sigmoid(s)"), "opset": 17},
    ),
    "the nodes around it are not a GELU's, or one of their results is used elsewhere": (
        "bias_gelu at erf",
        {"body": WRITTEN_OUT, "opset": 17, "outputs": "float[B, S, 8] y, float[B, S, 8] e"},
    ),
    "it needs opset 17 or newer; the model has 13": (
        "bias_gelu at erf",
        {"body": WRITTEN_OUT, "opset": 13},
    ),
    "min_count 1e-06 is not one of those baked into the kernels: 1e-09": (
        "masked_mean_pool_l2 at length",
        {"body": HEAD, "weights": {"count": "float count = {0.000001}"}},
    ),
    "its mask is bool, not int64": (
        "masked_mean_pool_l2 at length",
        {"body": HEAD, "inputs": "float[B, S, 8] x, bool[B, S] mask"},
    ),
    "its mask [1, S] is not known to fit x [B, S, 8]": (
        "masked_mean_pool_l2 at length",
        {"body": EXPANDED_MASK, "inputs": "float[B, S, 8] x, int64[1, S] mask"},
    ),
    "x [B, S, 8] is multiplied by [B, S, 8], not by a mask of its tokens": (
        "masked_mean_pool_l2 at length",
        {
            "body": HEAD.replace("[mask] c0 = Unsqueeze(mask, last)\n", "").replace(
                "Cast<to=1>(c0)", "Cast<to=1>(mask)"
            ),
            "inputs": "float[B, S, 8] x, int64[B, S, 8] mask",
        },
    ),
    "x [B, S, 8] is multiplied by [B, S, 1], not by a mask of its tokens": (
        "masked_mean_pool_l2 at length",  # 256 is 0 as int8
        {
            "body": HEAD.replace(
                "[cast] c = Cast<to=1>(c0)", "i = Cast<to=3>(c0)\n  c = Cast<to=1>(i)"
            )
        },
    ),
    "it normalises Relu 'mean', not the mean over tokens": (
        "masked_mean_pool_l2 at length",
        {
            "body": "\n  [mean] p = Relu(x)\n  [length] y = ReduceL2(p)",
            "outputs": "float[1, 1, 1] y",
        },
    ),
    "the mean is not taken over a product with a mask": (
        "masked_mean_pool_l2 at length",
        {"body": HEAD.replace("Mul(x, c)", "Add(x, c)")},
    ),
    "no L2 normalisation follows the masked sum": (
        "masked_mean_pool_l2 at total",
        {"body": "\n".join(HEAD.splitlines()[:-3]).replace("p = Div", "y = Div")},
    ),
    "the nodes around it are not a pooling head's, or a result of theirs is used elsewhere": (
        "masked_mean_pool_l2 at length",
        {"body": HEAD, "outputs": "float[B, 8] y, float[B, 8] p"},
    ),
}
for _what, _words in REFUSED.values():
    if _what.startswith("masked") and "inputs" not in _words:
        _words["inputs"] = MASKED if "mask," in _words["body"] else "float[B, S, 8] x"
    if _what.startswith("masked"):
        _words.setdefault("outputs", "float[B, 8] y")


@pytest.mark.parametrize(("reason", "case"), REFUSED.items(), ids=REFUSED)
def test_a_site_that_is_not_put_in_says_why(
    tmp_path: Path, reason: str, case: tuple[str, dict[str, Any]]
) -> None:
    """The kernel, the node's name and the one thing that is in the way; the file stays as it is."""
    what, words = case
    before = model(tmp_path / "before.onnx", **words)
    found = swap(before, tmp_path / "out")
    assert [(r.what, r.reason) for r in found.refused] == [(what, reason)]
    assert set(found.sites.values()) == {0}
    assert found.model.digest == before.digest


THREE = "".join(
    LAYER_NORM.replace("y = ", f"{'abcy'[i + 1]}0 = " if i < 2 else "y = ")
    .replace("(x, r)", f"({'x' if i == 0 else 'abc'[i] + '0'}, r)")
    .replace("s = ", f"s{i} = ")
    .replace("(s, ", f"(s{i}, ")
    .replace("[sum]", f"[sum{i}]")
    .replace("[norm]", f"[norm{i}]")
    for i in range(3)
)


def test_one_function_for_all_sites(tmp_path: Path) -> None:
    """Three nodes, one function without overloads; kernels that found nothing leave none."""
    before = model(tmp_path / "before.onnx", THREE)
    found = swap(before, tmp_path / "out")
    proto = onnx.load(found.model.path)
    assert [(f.domain, f.name, f.overload) for f in proto.functions] == [
        ("accel.kernels", "ResidualLayerNorm", "")
    ]
    assert len(nodes(found.model)) == found.sites["residual_layernorm"] == 3
    equal_to_its_inlined_form(before, found.model, feed(before))


def test_two_norms_of_one_sum(tmp_path: Path) -> None:
    """The first takes the sum; the second says where its input comes from now."""
    both = LAYER_NORM + "\n  [other] z = LayerNormalization(s, b, g)"
    before = model(tmp_path / "before.onnx", both, outputs="float[B, S, 8] y, float[B, S, 8] z")
    found = swap(before, tmp_path / "out")
    assert found.sites["residual_layernorm"] == 1
    (refusal,) = found.refused
    assert refusal.what == "residual_layernorm at other"
    assert refusal.reason.startswith("its input is ResidualLayerNorm 'node_")
    equal_to_its_inlined_form(before, found.model, feed(before))


def test_a_second_swap_changes_nothing(tmp_path: Path) -> None:
    """No site is left, none is lost: the same digest; kernels one by one give the same nodes."""
    before = model(tmp_path / "before.onnx", GELU + LAYER_NORM.replace("(x, r)", "(y, r)").replace(
        "] y =", "] z =").replace("s = ", "t = ").replace("(s, ", "(t, ").replace("[sum]", "[add]"),
        outputs="float[B, S, 8] z")  # fmt: skip
    once = swap(before, tmp_path / "once")
    assert sorted(n.op_type for n in nodes(once.model)) == ["BiasGelu", "ResidualLayerNorm"]
    twice = swap(once.model, tmp_path / "twice")
    assert (set(twice.sites.values()), twice.refused) == ({0}, ())
    assert twice.model.digest == once.model.digest
    first = swap(before, tmp_path / "first", ["residual_layernorm"])
    assert list(first.sites) == ["residual_layernorm"]
    second = swap(first.model, tmp_path / "second", ["bias_gelu"])
    assert sorted(n.op_type for n in nodes(second.model)) == ["BiasGelu", "ResidualLayerNorm"]
    equal_to_its_inlined_form(before, second.model, feed(before))


def test_a_new_site_in_a_swapped_graph(tmp_path: Path) -> None:
    """It shares the function that is there."""
    before = model(tmp_path / "before.onnx", LAYER_NORM)
    proto = onnx.load(swap(before, tmp_path / "once").model.path)
    proto.graph.node.add(op_type="Add", name="sum", input=["x", "y"], output=["t"])
    proto.graph.node.add(op_type="LayerNormalization", input=["t", "g", "b"], output=["z"])
    proto.graph.output.add().CopyFrom(proto.graph.output[0])
    proto.graph.output[1].name = "z"
    onnx.save(proto, tmp_path / "more.onnx")
    found = swap(graph.describe(tmp_path / "more.onnx"), tmp_path / "out")
    assert found.sites["residual_layernorm"] == 1
    assert [f.name for f in onnx.load(found.model.path).functions] == ["ResidualLayerNorm"]
    assert len(nodes(found.model)) == 2
    assert len({n.name for n in nodes(found.model)}) == 2


def test_a_models_own_functions_stay(tmp_path: Path) -> None:
    """They are kept as they were; a site inside of one is named, with what to do."""
    own = (
        '<domain: "own", opset_import: ["" : 23]>\n'
        "Block (x, g, b) => (y) {\n  t = Relu(x)\n  [inner] y = LayerNormalization(t, g, b)\n}"
    )
    body = LAYER_NORM + "\n  [call] z = own.Block(y, g, b)"
    before = model(tmp_path / "before.onnx", body, outputs="float[B, S, 8] z", functions=own)
    found = swap(before, tmp_path / "out")
    assert [(r.what, r.reason) for r in found.refused] == [
        (
            "residual_layernorm at own.Block inner",
            "it stands in the function own.Block: inline it first",
        )
    ]
    proto = onnx.load(found.model.path)
    assert [f.name for f in proto.functions] == ["Block", "ResidualLayerNorm"]
    assert proto.functions[0] == onnx.load(before.path).functions[0]
    equal_to_its_inlined_form(before, found.model, feed(before))


def test_another_function_of_the_same_name(tmp_path: Path) -> None:
    """A node must not come to mean something else: the kernel is left out, with the reason."""
    before = model(tmp_path / "before.onnx", LAYER_NORM)
    proto = onnx.load(swap(before, tmp_path / "once").model.path)
    proto.functions[0].node[0].op_type = "Sub"
    again = model(tmp_path / "again.onnx", LAYER_NORM)
    mixed = onnx.load(again.path)
    mixed.functions.extend(proto.functions)
    mixed.opset_import.add(domain="accel.kernels", version=1)
    onnx.save(mixed, again.path)
    found = swap(graph.describe(again.path), tmp_path / "out")
    assert [(r.what, r.reason) for r in found.refused] == [
        (
            "residual_layernorm at norm",
            "the model has another function accel.kernels.ResidualLayerNorm already",
        )
    ]


def changed(before: Model, change: Callable[[Any], Any]) -> Model:
    """The same file after an edit that the text form has no words for."""
    proto = onnx.load(before.path)
    change(proto)
    onnx.save(proto, before.path)
    return graph.describe(before.path)


def test_an_operator_of_another_domain_is_not_onnxs(tmp_path: Path) -> None:
    """A function own.Add may subtract, and an own.Mul take one operand: the reason names it."""
    own = '<domain: "own", opset_import: ["" : 23]>\nAdd (a, b) => (c) { c = Sub(a, b) }\n'
    body = LAYER_NORM.replace("= Add", "= own.Add")
    found = swap(model(tmp_path / "a.onnx", body, functions=own), tmp_path / "a")
    assert [r.reason for r in found.refused] == [
        "its input is own.Add 'sum', not an Add of two tensors"
    ]
    one = '<domain: "own", opset_import: ["" : 23]>\nMul (a) => (c) { c = Neg(a) }\n'
    resize = """
  c = Cast<to=1>(x)
  n = own.Mul(c)
  y = Resize<mode="linear">(n, , , to)"""
    sizes = {"to": "int64[4] to = {1, 3, 2, 2}"}
    floats = {"inputs": "uint8[1, 3, 4, 4] x", "outputs": "float[1, 3, 2, 2] y", "weights": sizes}
    left = swap(model(tmp_path / "b.onnx", resize, functions=one, **floats), tmp_path / "b")
    assert (set(left.sites.values()), left.refused) == ({0}, ())


def test_another_version_of_the_domain(tmp_path: Path) -> None:
    """A file imports a domain once, and ours is version 1."""
    before = changed(
        model(tmp_path / "a.onnx", LAYER_NORM),
        lambda proto: proto.opset_import.add(domain="accel.kernels", version=3),
    )
    (refusal,) = swap(before, tmp_path / "out").refused
    assert refusal.reason == "the model imports accel.kernels 3, not 1"


def test_sparse_weights_stay(tmp_path: Path) -> None:
    """onnx_ir does not hold them; the graph still reads them."""

    def add_one(proto: Any) -> None:
        values = helper.make_tensor("sparse", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
        places = helper.make_tensor("places", onnx.TensorProto.INT64, [2], [0, 3])
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [8]))
        proto.graph.node.add(op_type="Add", input=["y", "sparse"], output=["z"])
        proto.graph.output[0].name = "z"

    before = changed(model(tmp_path / "a.onnx", LAYER_NORM), add_one)
    found = swap(before, tmp_path / "out")
    assert found.sites["residual_layernorm"] == 1
    (want,), (got,) = (run(onnx.load(m.path), feed(before)) for m in (before, found.model))
    np.testing.assert_allclose(got, want, atol=TOLERANCE["float32"])


BRANCHES = """
  [sum] s = Add(x, r)
  [if] y = If(yes) <
    then_branch = then () => (float[B, S, 8] a) {{
      {then}
      [within] a = LayerNormalization<epsilon=1e-12>(t, g, b)
    }},
    else_branch = other () => (float[B, S, 8] c) {{
      c = Identity(x)
    }}
  >"""


def test_a_branch_is_matched_or_left_alone(tmp_path: Path) -> None:
    """A pattern inside of a branch is put in there; one that crosses its border is refused."""
    inputs = f"{FLOATS}, bool yes"
    inside = BRANCHES.format(then="[twice] t = Add(x, s)")
    before = model(tmp_path / "inside.onnx", inside + "\n", inputs)
    found = swap(before, tmp_path / "a")
    assert (found.sites["residual_layernorm"], found.refused) == (1, ())
    across = BRANCHES.format(then="u = Relu(x)").replace("(t, g, b)", "(s, g, b)")
    crossing = model(tmp_path / "across.onnx", across + "\n", inputs)
    left = swap(crossing, tmp_path / "b")
    assert [(r.what, r.reason) for r in left.refused] == [
        (
            "residual_layernorm at within",
            "its Add stands outside of the branch or loop that it is in",
        )
    ]
    for old, new in ((before, found.model), (crossing, left.model)):
        for yes in (True, False):
            given = {**feed(old), "yes": np.array(yes)}
            equal_to_its_inlined_form(old, new, given)


def test_a_branch_that_reads_the_sum(tmp_path: Path) -> None:
    """The sum of a node that was put in outside is what a branch reads; a GELU's is left alone."""
    inputs, outputs = f"{FLOATS}, bool yes", "float[B, S, 8] z, float[B, S, 8] y"
    branch = BRANCHES.replace("[sum] s = Add(x, r)\n", "").replace("[if] y", "[if] z")
    outer = LAYER_NORM + branch.format(then="[twice] t = Add(r, s)")
    before = model(tmp_path / "a.onnx", outer + "\n", inputs, outputs)
    found = swap(before, tmp_path / "a")
    assert (found.sites["residual_layernorm"], found.refused) == (2, ())
    gelu = GELU + branch.format(then="[twice] t = Add(r, s)")
    other = model(tmp_path / "b.onnx", gelu + "\n", inputs, outputs)
    left = swap(other, tmp_path / "b")
    assert [r.reason for r in left.refused] == ["the sum is used elsewhere"]
    for old, new in ((before, found.model), (other, left.model)):
        for yes in (True, False):
            equal_to_its_inlined_form(old, new, {**feed(old), "yes": np.array(yes)})


def openvino(described: Model, given: Feed, out: Path) -> tuple[Any, Mapping[str, Any]]:
    """Its answer, and what its plan says."""
    engine, target = catalog.load("engines", "openvino"), targets.load("cpu-local")
    requests = (Request("all", 1.0, given),)
    out.mkdir()
    options = engine.options("fp32", target, requests, {})[-1]
    plan = engine.build(described, target, options, requests, out)
    session = engine.load(plan)
    found = session(given)
    session.close()
    return found, plan.facts


@pytest.mark.parametrize("name", ["residual_layernorm", "bias_gelu, written out", "masked_mean_pool_l2"])  # fmt: skip
def test_openvino_has_functions_inlined(tmp_path: Path, name: str) -> None:
    """It refuses nodes of functions: its build inlines them, says so, and gives the same values."""
    before = model(tmp_path / "before.onnx", **FOUND[name][1])
    after = swap(before, tmp_path / "out").model
    given = feed(before)
    wanted, plain = openvino(before, given, tmp_path / "a")
    found, facts = openvino(after, given, tmp_path / "b")
    assert "inlined" not in plain
    assert facts["inlined"] == f"accel.kernels.{nodes(after)[0].op_type}"
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, rtol=2e-6, atol=2e-6)


def test_a_graph_without_sites_is_an_answer(tmp_path: Path) -> None:
    """Exit code 0, "0 sites", and the file as it was."""
    before = testing.mlp(tmp_path / "m.onnx")
    out = tmp_path / "s.onnx"
    found = CliRunner().invoke(cli, ["swap", str(before.path), "--out", str(out)])
    assert (found.exit_code, found.output.splitlines()) == (0, ["swap: 0 sites", str(out)])
    assert graph.describe(out).digest == graph.describe(before.path).digest


def test_a_kernel_without_a_rule_says_so_when_it_is_asked_for(tmp_path: Path) -> None:
    """Silence would look like a graph without sites."""
    ruleless = [n for n in catalog.names("kernels") if not catalog.load("kernels", n).rules()]
    before = testing.mlp(tmp_path / "m.onnx")
    found = swap(before, tmp_path / "a", [*ruleless, "bias_gelu"])
    assert [r.what for r in found.refused] == ruleless
    assert all("it has no rule" in r.reason for r in found.refused)
    assert found.model.trail[-1] == "swap: 0 sites"
    assert swap(before, tmp_path / "b").refused == ()


def test_a_files_own_weights_are_not_written_over(tmp_path: Path) -> None:
    """--out names what the model keeps its weights in: refused, and they stay as they are."""
    before = model(tmp_path / "m.onnx", LAYER_NORM)
    proto = onnx.load(before.path)
    for tensor in proto.graph.initializer:  # only bytes can lie in another file
        array = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(
        proto,
        before.path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    weights = (tmp_path / "weights.bin").read_bytes()
    out = tmp_path / "weights.bin"
    found = CliRunner().invoke(cli, ["swap", str(before.path), "--out", str(out)])
    assert isinstance(found.exception, UsageError)
    assert "is what is read" in str(found.exception)
    assert out.read_bytes() == weights


def test_the_command(tmp_path: Path) -> None:
    """What was put in and what was not, as text and as one document; --kernel chooses."""
    body = LAYER_NORM + "\n  [other] z = LayerNormalization(x, b, g)"
    before = model(tmp_path / "m.onnx", body, outputs="float[B, S, 8] y, float[B, S, 8] z")
    words = ["swap", str(before.path), "--out", str(tmp_path / "s.onnx")]
    reason = "its input is an input of the graph, not an Add of two tensors"
    lines = CliRunner().invoke(cli, words).stdout.splitlines()
    assert lines[:2] == [
        "swap: residual_layernorm 1 of 2",
        f"refused: residual_layernorm at other: {reason}",
    ]
    found = CliRunner().invoke(cli, [*words, "--json", "--kernel", "residual_layernorm"])
    document = json.loads(found.stdout)
    assert document["schema"] == "accel/swap"
    assert document["data"]["sites"] == {"residual_layernorm": 1}
    assert document["data"]["refused"][0]["reason"] == reason
    unknown = CliRunner().invoke(cli, [*words, "--kernel", "bias_gelo"])
    assert isinstance(unknown.exception, UsageError)
    assert "No kernel named 'bias_gelo'. Did you mean 'bias_gelu'?" in str(unknown.exception)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("exporter", export.EXPORTERS)
def test_every_site_of_minilm(tmp_path: Path, exporter: str) -> None:
    """Real weights: 13 layer norms, 6 GELUs, the pooling head; the same embeddings in ONNX Runtime,
    to the bit of the inlined form, and in OpenVINO."""
    problem = workload.load("examples/minilm.py")
    (tmp_path / "export").mkdir()
    before = export.export(problem, exporter, tmp_path / "export")
    found: Swapped = swap(before, tmp_path / "swap")
    assert found.refused == ()
    assert {k: v for k, v in found.sites.items() if v} == {
        "bias_gelu": 6,
        "masked_mean_pool_l2": 1,
        "residual_layernorm": 13,
    }
    draw = np.random.default_rng(0)
    mask = (np.arange(17) < np.array([[17], [9], [3]])).astype(np.int64)
    given = {"input_ids": draw.integers(0, 30000, (3, 17)) * mask, "attention_mask": mask}
    equal_to_its_inlined_form(before, found.model, given, (LEVELS[0], LEVELS[-1]))
    wanted, found_there = (
        openvino(m, given, tmp_path / name)[0]["sentence_embedding"]
        for m, name in ((before, "a"), (found.model, "b"))
    )
    np.testing.assert_allclose(found_there, wanted, atol=2e-6)
