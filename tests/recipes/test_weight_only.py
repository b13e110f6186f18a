"""weight_only: which products are rounded, what is written, and that each engine answers as numpy does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from accel import catalog, graph, target, testing
from accel.errors import CandidateBroken, UsageError
from accel.qdq import blocks
from accel.questions.explain import explain
from accel.recipes import weight_only
from accel.steps.swap import swap
from accel.values import Feed, Model, QuantStyle, Request

HERE = target.load("cpu-local")
ORT, OPENVINO = (
    QuantStyle(True, False, True, False, True, operators=o) for o in ((), ("openvino",))
)
TENSORRT = QuantStyle(True, True, True, True, True, operators=("tensorrt",), pairs="inputs")
FOUR, EIGHT = {"bits": 4, "block": 32}, {"bits": 8, "block": 32}
K, N = 64, 48
X = {"x": np.random.default_rng(1).normal(size=(3, K)).astype(np.float32)}


def model(
    path: Path, *nodes: Any, opset: int = 17, inputs: Any = None, **weights: Sequence[int]
) -> Model:
    """x [n, K] -> y, by these nodes; weights of these shapes, drawn."""
    draw = np.random.default_rng(2)
    held = {k: draw.normal(size=shape).astype(np.float32) for k, shape in weights.items()}
    ports = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", K])]
    body = helper.make_graph(
        list(nodes), "g", ports, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])],
        [numpy_helper.from_array(v, k) for k, v in held.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(body, opset_imports=opsets, ir_version=8), path)
    return graph.describe(path)


def product(path: Path, depth: int = K) -> Model:
    """y = x w."""
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", depth])
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    return model(path, node, inputs=[port], w=(depth, N))


def gemm(path: Path, **options: Any) -> Model:
    """y = x w' + b."""
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", **options)
    return model(path, node, w=(N, K) if options.get("transB") else (K, N), b=(N,))


def arrays(path: Path) -> Mapping[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def expected(w: Any, options: Mapping[str, int], x: Any = X["x"]) -> Any:
    """x w', w' as numpy rounds it."""
    q, scales = blocks.rounded(w, options["bits"], options["block"])
    return x @ blocks.back(q, scales, options["block"])


def answered(engine: str, made: Model, feed: Feed, folder: Path, **options: Any) -> Any:
    """What an engine of accel gives."""
    module = catalog.load("engines", engine)
    folder.mkdir()
    given = {"threads": 1, **({"precision": "f32"} if engine == "openvino" else {}), **options}
    plan = module.build(made, HERE, given, [Request("all", 1.0, feed)], folder)
    with closing(module.load(plan)) as session:
        return session(feed)["y"], plan


@pytest.mark.parametrize("options", [FOUR, EIGHT], ids=["4", "8"])
def test_onnx_runtime_runs_its_kernel_and_answers_as_numpy_does(
    tmp_path: Path, options: dict[str, int]
) -> None:
    """MatMulNBits is what runs, on float activations: sums differ in their order alone."""
    base = product(tmp_path / "m.onnx")
    made = weight_only.apply(base, None, ORT, options, tmp_path)
    [node] = onnx.load(made.model.path).graph.node
    assert (node.op_type, node.domain, node.name) == ("MatMulNBits", "com.microsoft", "product")
    assert (made.portable, made.only) == (False, "onnxruntime")
    got, plan = answered("onnxruntime_cpu", made.model, X, tmp_path / "plan")
    assert [(r.operator, r.dtype) for r in plan.placement.placed] == [("MatMulNBits", "float32")]
    wanted = expected(arrays(base.path)["w"], options)
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("options", [FOUR, EIGHT], ids=["4", "8"])
def test_onnx_runtime_rounds_activations_where_the_graph_asks_for_it(
    tmp_path: Path, options: dict[str, int]
) -> None:
    """By accuracy_level: near the float product, and not the same."""
    base = product(tmp_path / "m.onnx")
    rounded = {**options, "activations": "int8"}
    made = weight_only.apply(base, None, ORT, rounded, tmp_path).model
    got, _ = answered("onnxruntime_cpu", made, X, tmp_path / "plan")
    wanted = expected(arrays(base.path)["w"], options)
    off = np.abs(got - wanted).max() / np.abs(wanted).max()
    assert 1e-4 < off < 0.02


@pytest.mark.parametrize("options", [FOUR, EIGHT], ids=["4", "8"])
def test_the_standard_form_is_what_onnx_says_it_is(tmp_path: Path, options: dict[str, int]) -> None:
    """ONNX's own evaluator, ONNX Runtime unoptimized and optimized give numpy's answer."""
    base = product(tmp_path / "m.onnx")
    made = weight_only.apply(base, None, OPENVINO, options, tmp_path)
    proto = onnx.load(made.model.path)
    assert [n.op_type for n in proto.graph.node] == ["DequantizeLinear", "MatMul"]
    assert (made.portable, proto.opset_import[0].version) == (True, 21)
    kind = TensorProto.INT4 if options["bits"] == 4 else TensorProto.INT8
    assert kind in {t.data_type for t in proto.graph.initializer}
    wanted = expected(arrays(base.path)["w"], options)
    bound = 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(ReferenceEvaluator(proto).run(None, X)[0], wanted, atol=bound)
    for engine in ("reference", "onnxruntime_cpu"):
        got, _ = answered(engine, made.model, X, tmp_path / engine)
        np.testing.assert_allclose(got, wanted, atol=bound)


@pytest.mark.parametrize("options", [FOUR, EIGHT], ids=["4", "8"])
def test_openvino_keeps_the_integers_and_rounds_activations_only_when_asked(
    tmp_path: Path, options: dict[str, int]
) -> None:
    """One FullyConnected, no product beside a weight that was unpacked; left alone it would round."""
    pytest.importorskip("openvino", reason="of the openvino extra; instead: ONNX Runtime's tests")
    base = product(tmp_path / "m.onnx")
    made = weight_only.apply(base, None, OPENVINO, options, tmp_path).model
    wanted = expected(arrays(base.path)["w"], options)
    got, plan = answered("openvino", made, X, tmp_path / "plan")
    assert [(r.operator, r.dtype) for r in plan.placement.placed] == [("FullyConnected", "float32")]
    assert plan.portable
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
    got, plan = answered("openvino", made, X, tmp_path / "rounded", activations="int8")
    off = np.abs(got - wanted).max() / np.abs(wanted).max()
    assert 1e-4 < off < 0.02
    assert not plan.portable
    assert plan.facts["activations"] == "int8"
    with pytest.raises(CandidateBroken):
        answered("openvino", made, X, tmp_path / "other", activations="int5")


@pytest.mark.parametrize("style", [ORT, OPENVINO], ids=["nbits", "standard"])
@pytest.mark.parametrize("options", [{}, {"transB": 1}], ids=["plain", "turned"])
def test_a_gemm_keeps_its_bias_and_its_orientation(
    tmp_path: Path, style: QuantStyle, options: dict[str, int]
) -> None:
    """It becomes a product and an addition, of the same output."""
    base = gemm(tmp_path / "m.onnx", **options)
    made = weight_only.apply(base, None, style, FOUR, tmp_path).model
    assert [n.op_type for n in onnx.load(made.path).graph.node][-1] == "Add"
    held = arrays(base.path)
    wanted = expected(held["w"].T if options else held["w"], FOUR) + held["b"]
    got, _ = answered("onnxruntime_cpu", made, X, tmp_path / "plan")
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def test_blocks_that_do_not_divide_k_are_filled_up_or_left(tmp_path: Path) -> None:
    """MatMulNBits has a part of a block at the end; a DequantizeLinear has none, so the weight stays."""
    base = product(tmp_path / "m.onnx", depth=50)
    feed = {"x": np.random.default_rng(4).normal(size=(2, 50)).astype(np.float32)}
    made = weight_only.apply(base, None, ORT, FOUR, tmp_path).model
    wanted = expected(arrays(base.path)["w"], FOUR, feed["x"])
    got, _ = answered("onnxruntime_cpu", made, feed, tmp_path / "plan")
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
    with pytest.raises(CandidateBroken, match="1 of a K that 32 does not divide"):
        weight_only.apply(base, None, OPENVINO, FOUR, tmp_path)


@pytest.mark.parametrize("style", [ORT, OPENVINO], ids=["nbits", "standard"])
def test_a_shared_weight_is_stored_once_and_stays_where_it_is_looked_up(
    tmp_path: Path, style: QuantStyle
) -> None:
    """Two products read the same integers; a table that is also looked up by rows stays as it is."""
    ports = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], "lookup"),
        helper.make_node("MatMul", ["rows", "w"], ["a"], "one"),
        helper.make_node("MatMul", ["a", "w"], ["b"], "two"),
        helper.make_node("Gemm", ["b", "table"], ["y"], "head", transB=1),
    ]
    base = model(tmp_path / "m.onnx", *nodes, inputs=ports, table=(80, K), w=(K, K))
    made = weight_only.apply(base, None, style, FOUR, tmp_path)
    held = arrays(made.model.path)
    assert sorted(held) == sorted(
        ["table", "table__turned_int4", "table__turned_int4__scale", "w__int4", "w__int4__scale"]
    )
    assert made.facts["int4"] == 3
    w, table, ids = arrays(base.path)["w"], arrays(base.path)["table"], np.asarray([3, 70, 0])
    rows = expected(w, FOUR, expected(w, FOUR, table[ids]))
    wanted = expected(table.T, FOUR, rows)
    got, _ = answered("onnxruntime_cpu", made.model, {"ids": ids}, tmp_path / "plan")
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())


def test_weights_are_what_becomes_small(tmp_path: Path) -> None:
    """Of float32: less than a sixth at 4 bits, a scale for 32; near a quarter at 8, one for 128."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 256])
    base = model(tmp_path / "m.onnx", node, inputs=[port], w=(256, 256))
    before = base.path.stat().st_size
    out = tmp_path / "out"
    out.mkdir()
    for style in (ORT, OPENVINO):
        for options, share in ((FOUR, 0.165), ({"bits": 8, "block": 128}, 0.265)):
            made = weight_only.apply(base, None, style, options, out).model
            assert made.path.stat().st_size < share * before


def conv(path: Path) -> Model:
    node = helper.make_node("Conv", ["x", "k"], ["y"], "conv")
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, 8, 8])
    return model(path, node, inputs=[port], k=(16, 16, 3, 3))


def small(path: Path) -> Model:
    return model(path, helper.make_node("MatMul", ["x", "w"], ["y"], "product"), w=(K, 8))


def paired(path: Path) -> Model:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], "turn"),
        helper.make_node("MatMul", ["x", "t"], ["y"], "product"),
    ]
    return model(path, *nodes)


def left(path: Path) -> Model:
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, [K, 5])
    node = helper.make_node("MatMul", ["w", "x"], ["y"], "product")
    return model(path, node, inputs=[port], w=(N, K))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (conv, "1 convolution"),
        (small, "1 small"),
        (paired, "1 of two activations"),
        (left, "1 not by a matrix on the right"),
        (lambda p: gemm(p, alpha=2.0), "1 scaled or transposed"),
        (lambda p: gemm(p, beta=0.5), "1 scaled or transposed"),
        (lambda p: model(p, helper.make_node("Relu", ["x"], ["y"])), "no product"),
    ],
)
@pytest.mark.parametrize("style", [ORT, OPENVINO], ids=["nbits", "standard"])
def test_a_graph_with_nothing_to_round_is_refused_with_the_reason(
    tmp_path: Path, make: Any, said: str, style: QuantStyle
) -> None:
    """It is not passed off as rounded."""
    with pytest.raises(CandidateBroken, match=said):
        weight_only.apply(make(tmp_path / "m.onnx"), None, style, FOUR, tmp_path)
    assert not (tmp_path / "model.onnx").exists()


def test_what_is_kept_is_told_beside_what_is_rounded(tmp_path: Path) -> None:
    """The facts count both, and say how far the weights are from what they were."""
    base = testing.attention(tmp_path / "m.onnx", width=64)
    found = weight_only.apply(base, None, ORT, FOUR, tmp_path)
    assert (found.facts["int4"], found.facts["float32"]) == (3, 2)
    assert found.facts["kept in fp32"] == "2 of two activations"
    assert 19 < found.facts["weights' SQNR, dB"] < 23
    assert found.model.trail[-1] == "weight_only int4 in blocks of 32, 3 products"
    finer = weight_only.apply(base, None, ORT, EIGHT, tmp_path)
    assert 43 < finer.facts["weights' SQNR, dB"] < 48


def test_tensorrt_gets_int4_alone_and_our_kernel_fits_each_site(tmp_path: Path) -> None:
    """It has weight-only kernels of int4; blocks are of a size that matmul_dequant_int4 was compiled for."""
    assert [v["bits"] for v in weight_only.variants(TENSORRT)] == [4]
    [options] = weight_only.variants(TENSORRT)
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 128])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "one"),
        helper.make_node("Gemm", ["a", "v", "b"], ["y"], "two", transB=1),
    ]
    base = model(tmp_path / "m.onnx", *nodes, inputs=[port], w=(128, 128), v=(N, 128), b=(N,))
    made = weight_only.apply(base, None, TENSORRT, options, tmp_path).model
    done = swap(made, tmp_path / "swapped", ("matmul_dequant_int4",))
    assert done.sites == {"matmul_dequant_int4": 2}
    assert not done.refused


def test_explain_takes_a_weight_in_blocks_back(tmp_path: Path) -> None:
    """One whose scales are of another checkpoint is named first, before what rounding does to the others."""
    base = testing.mlp(tmp_path / "m.onnx", width=K, layers=2, classes=48)
    proto = onnx.load(weight_only.apply(base, None, OPENVINO, FOUR, tmp_path).model.path)
    scale = next(t for t in proto.graph.initializer if t.name == "w1__int4__scale")
    scale.CopyFrom(numpy_helper.from_array(3 * numpy_helper.to_array(scale), scale.name))
    onnx.save(proto, tmp_path / "wrong.onnx")
    told = explain(tmp_path / "wrong.onnx", base.path, [X])
    assert (told.suspects[0].value, told.suspects[0].kind) == ("p1", "wrong or stale scale")


@pytest.mark.parametrize(
    "options", [{**FOUR, "bits": 3}, {**FOUR, "activations": "int4"}], ids=["bits", "activations"]
)
def test_another_width_is_a_usage_error(tmp_path: Path, options: dict[str, Any]) -> None:
    """It names what there is."""
    with pytest.raises(UsageError, match="bits 4 or 8"):
        weight_only.apply(product(tmp_path / "m.onnx"), None, ORT, options, tmp_path)


def test_activations_cannot_be_asked_for_where_the_graph_cannot_say_it(tmp_path: Path) -> None:
    """In a standard graph that is the engine's setting."""
    asked = {**FOUR, "activations": "int8"}
    with pytest.raises(UsageError, match="for ONNX Runtime"):
        weight_only.apply(product(tmp_path / "m.onnx"), None, OPENVINO, asked, tmp_path)
