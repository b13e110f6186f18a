"""float16 between int8 products, for engines that compute in the types that the graph says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from small_graphs import rotary

from accel import catalog, graph, legality, target, testing
from accel.recipes import int8_mixed
from accel.values import Feed, Model

GPU = target.load("h100")
STYLE = catalog.load("engines", "tensorrt").style(GPU)
PLAIN = {"ranges": "mse", "correct": True}
REST = {**PLAIN, "rest": "float16"}
MODELS = ("mlp", "convnet", "attention")


def feeds(model: Model, scale: float = 1.0) -> list[Feed]:
    """Eight, of four rows; tokens of several lengths."""
    if model.inputs[0].dtype == "int64":
        return [testing.tokens(batch=2, length=3 + i).inputs for i in range(8)]
    shape = (4, *(int(d) for d in model.inputs[0].shape[1:]))
    draw = np.random.default_rng(3)
    return [{"x": (scale * draw.normal(size=shape)).astype(np.float32)} for _ in range(8)]


def applied(model: Model, options: Any, folder: Path, scale: float = 1.0) -> Any:
    folder.mkdir()
    return int8_mixed.apply(model, feeds(model, scale), STYLE, options, folder)


def answers(path: Path, model: Model) -> Any:
    """Every output of every feed in ONNX Runtime, flat."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    every = [v for feed in feeds(model) for v in session.run(None, feed)]
    return np.concatenate([v.ravel() for v in every])


def sqnr_db(wanted: Any, found: Any) -> float:
    return float(20 * np.log10(np.linalg.norm(wanted) / np.linalg.norm(wanted - found)))


@pytest.mark.parametrize("name", MODELS)
def test_the_answers_are_those_of_int8(name: str, tmp_path: Path) -> None:
    """What float16 adds is hidden under the steps of int8: within a decibel of the graph without it."""
    model = getattr(testing, name)(tmp_path / "m.onnx")
    wanted = answers(model.path, model)
    plain, rest = (
        sqnr_db(wanted, answers(applied(model, o, tmp_path / k).model.path, model))
        for k, o in (("plain", PLAIN), ("rest", REST))
    )
    assert rest > plain - 1.0


@pytest.mark.parametrize("name", MODELS)
def test_products_read_and_make_float16_and_ports_stay(name: str, tmp_path: Path) -> None:
    """Every pair around an int8 product is of float16, the ports are as they were, and ONNX finds the
    graph sound and of one type everywhere, as TensorRT will."""
    model = getattr(testing, name)(tmp_path / "m.onnx")
    made = applied(model, REST, tmp_path / "rest")
    proto = onnx.shape_inference.infer_shapes(onnx.load(made.model.path), strict_mode=True)
    onnx.checker.check_model(proto, full_check=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in proto.graph.value_info}
    makers = {o: n for n in proto.graph.node for o in n.output}
    weighted = [n for n in proto.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    int8 = [n for n in weighted if makers[n.input[1]].op_type == "DequantizeLinear"]
    assert len(int8) == made.facts["int8"]
    assert {kinds[i] for n in int8 for i in n.input[:2]} == {TensorProto.FLOAT16}
    described = graph.describe(made.model.path)
    assert [(p.name, p.dtype) for p in described.inputs] == [
        (p.name, p.dtype) for p in model.inputs
    ]
    assert {p.dtype for p in described.outputs} == {"float32"}
    found = legality.check(made.model.path, GPU)
    assert not [f for f in found if f.level == "error" and f.rule in ("typed", "qdq", "dtypes")]


def test_what_leaves_float16s_range_stays_float32(tmp_path: Path) -> None:
    """Inputs of 1e6: what is that large is not cast, and the answers stay finite and near."""
    model = testing.mlp(tmp_path / "m.onnx")
    made = applied(model, REST, tmp_path / "rest", scale=1e6)
    assert "range" in made.facts["kept in fp32"]
    large = [{"x": 1e6 * f["x"]} for f in feeds(model)]
    run = [
        onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]).run(None, large[0])[0]
        for p in (model.path, made.model.path)
    ]
    assert sqnr_db(*run) > 25


def test_scales_that_float16_would_lose_stay_float32(tmp_path: Path) -> None:
    """Weights of 1e-5 have steps of 1e-7, which float16 rounds to nothing."""
    model = testing.mlp(tmp_path / "m.onnx")
    proto = onnx.load(model.path)
    for tensor in proto.graph.initializer:
        if len(tensor.dims) == 2:
            small = numpy_helper.to_array(tensor) * np.float32(1e-5)
            tensor.CopyFrom(numpy_helper.from_array(small, tensor.name))
    onnx.save(proto, model.path)
    model = graph.describe(model.path)
    made = applied(model, REST, tmp_path / "rest")
    wanted = answers(model.path, model)
    assert sqnr_db(wanted, answers(made.model.path, model)) > 25


def test_positions_and_their_angles_stay_float32(tmp_path: Path) -> None:
    """What leads to a cosine is within float16's range, and is not rounded to it."""
    model = rotary(tmp_path / "m.onnx", 19)
    long = {"x": np.ones((4000, 8), np.float32)}
    (tmp_path / "rest").mkdir()
    options = {**REST, "float": ("matmul_angles",)}
    made = int8_mixed.apply(model, [long], STYLE, options, tmp_path / "rest")
    assert "exact" in made.facts["kept in fp32"]
    wanted, found = (
        onnxruntime.InferenceSession(p, providers=["CPUExecutionProvider"]).run(None, long)[0]
        for p in (model.path, made.model.path)
    )
    assert sqnr_db(wanted, found) > 30


def test_a_graph_too_old_for_it_is_raised(tmp_path: Path) -> None:
    """Q/DQ of float16 are of opset 19; a graph of 17 comes out at it."""
    model = testing.mlp(tmp_path / "m.onnx")
    proto = onnx.load(model.path)
    proto.opset_import[0].version = 17
    onnx.save(proto, model.path)
    made = applied(graph.describe(model.path), REST, tmp_path / "rest")
    assert onnx.load(made.model.path).opset_import[0].version == 19


def test_only_tensorrt_is_offered_it() -> None:
    """Engines on a CPU would cast back; there the runtime's own hint says what the rest runs in."""
    offered = [o for o in int8_mixed.variants(STYLE) if o.get("rest")]
    assert offered[0] == {**PLAIN, "rest": "float16"}
    for name in ("onnxruntime_cpu", "openvino"):
        style = catalog.load("engines", name).style(target.load("cpu-local"))
        assert not [o for o in int8_mixed.variants(style) if o.get("rest")]
