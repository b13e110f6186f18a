"""Products of one value as one product: the same answers, one quantized reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import catalog, graph, target, testing
from accel.errors import CandidateBroken
from accel.recipes import _merge, int8_mixed
from accel.values import Model

WIDTH, SIZES = 24, (16, 16, 8)
X = {"x": np.random.default_rng(7).normal(size=(2, 5, WIDTH)).astype(np.float32)}


def projections(biases: tuple[bool, ...] = (True, True, True), extra: tuple[Any, ...] = ()) -> Any:
    """Query, key and value of x; each an output."""
    draw = np.random.default_rng(1)
    nodes, weights, outputs = [], {}, []
    for name, size, bias in zip("qkv", SIZES, biases, strict=True):
        weights[f"w{name}"] = draw.normal(size=(WIDTH, size))
        end = f"{name}_sum" if bias else name
        nodes.append(helper.make_node("MatMul", ["x", f"w{name}"], [end], f"{name}_product"))
        if bias:
            weights[f"b{name}"] = draw.normal(size=size)
            nodes.append(helper.make_node("Add", [f"b{name}", end], [name], f"{name}_bias"))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "s", size]))
    body = helper.make_graph(
        [*nodes, *extra], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "s", WIDTH])], outputs,
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )  # fmt: skip
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


EVERY = ("q_product", "k_product", "v_product")


def run(proto: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, X)


def products(proto: Any) -> int:
    return sum(n.op_type == "MatMul" for n in proto.graph.node)


@pytest.mark.parametrize("bias", [True, False])
def test_three_become_one_with_the_same_answers(bias: bool) -> None:
    """Weights and biases side by side, split again where they were; the old ones are gone."""
    exact = projections((bias,) * 3)
    made, names = _merge.merged(exact, EVERY)
    onnx.checker.check_model(made, full_check=True)
    assert names == {"x__merged": EVERY}
    assert products(made) == 1
    for wanted, found in zip(run(exact), run(made), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert not {"wq", "bk"} & {t.name for t in made.graph.initializer}


def test_only_what_is_chosen_and_alike_is_merged() -> None:
    """One that stays float32 stays by itself; one without a bias does not join those that have one."""
    exact = projections()
    assert _merge.merged(exact, EVERY[:2])[1] == {"x__merged": EVERY[:2]}
    assert _merge.merged(exact, EVERY[:1]) == (exact, {})
    mixed = projections((True, True, False))
    made, names = _merge.merged(mixed, EVERY)
    assert names == {"x__merged": EVERY[:2]}
    for wanted, found in zip(run(mixed), run(made), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_sum_that_others_read_keeps_its_own_name() -> None:
    """The product without its bias is an output too: then the bias is added behind the split."""
    exact = projections()
    exact.graph.output.append(
        helper.make_tensor_value_info("q_sum", TensorProto.FLOAT, ["n", "s", SIZES[0]])
    )
    made, _ = _merge.merged(exact, EVERY)
    for wanted, found in zip(run(exact), run(made), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """One attention."""
    return testing.attention(tmp_path / "m.onnx", width=64)


@pytest.mark.parametrize("engine", ["onnxruntime_cpu", "openvino", "tensorrt"])
def test_int8_of_a_merged_attention(engine: str, model: Model, tmp_path: Path) -> None:
    """One product fewer for each that was merged, as near to fp32 as without, and scales still move."""
    style = catalog.load("engines", engine).style(target.load("h100"))
    feeds = [testing.tokens(batch=2, length=3 + i).inputs for i in range(6)]
    off = []
    for name, more in (("apart", {}), ("merged", {"merge": True})):
        (tmp_path / name).mkdir()
        options = {"ranges": "mse", "correct": True, "migrate": 0.8, **more}
        made = int8_mixed.apply(model, feeds, style, options, tmp_path / name)
        wanted, found = (
            onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]).run(
                None, dict(feeds[2])
            )[0]
            for p in (model.path, made.model.path)
        )
        off.append(float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)))
        assert (products(onnx.load(made.model.path)) < products(onnx.load(model.path))) == bool(
            more
        )
    assert off[1] < 1.3 * off[0] + 1e-3


def test_a_graph_with_nothing_to_merge_says_so(tmp_path: Path) -> None:
    """Products one after the other read a value each."""
    model = testing.mlp(tmp_path / "m.onnx")
    feeds = [{"x": np.ones((2, int(model.inputs[0].shape[1])), np.float32)}]
    style = catalog.load("engines", "openvino").style(target.load("cpu-local"))
    (tmp_path / "out").mkdir()
    with pytest.raises(CandidateBroken, match="no value is read by two products"):
        int8_mixed.apply(
            graph.describe(model.path),
            feeds,
            style,
            {"ranges": "mse", "merge": True},
            tmp_path / "out",
        )
