"""bf16: the graph itself says bfloat16, its outputs stay close, and what must be exact stays float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from small_graphs import F, Node, drawn, listed, rotary, types_of

from accel import catalog, graph, legality, store, target, testing
from accel.errors import CandidateBroken
from accel.protocols import Quantized
from accel.values import Feed, Model, QuantStyle

BF16 = catalog.load("recipes", "bf16")
H200 = target.load("h200")
STYLES = {
    name: catalog.load("engines", name).style(H200) for name in ("tensorrt", "onnxruntime_cuda")
}


def _model(path: Path, nodes: Sequence[Node], opset: int = 22, **weights: Any) -> Model:
    return drawn(path, nodes, opset, **weights)


def _applied(model: Model, folder: Path, style: QuantStyle = STYLES["tensorrt"]) -> Quantized:
    """Checked by ONNX's own checker, types and shapes included."""
    folder.mkdir(exist_ok=True)
    made: Quantized = BF16.apply(model, None, style, {}, folder)
    onnx.checker.check_model(onnx.load(made.model.path), full_check=True)
    return made


def _upgraded(model: Model, opset: int, path: Path) -> Model:
    """The same graph at a later opset."""
    onnx.save(onnx.version_converter.convert_version(onnx.load(model.path), opset), path)
    return graph.describe(path)


def _answers(path: Path, feed: Feed) -> list[Any]:
    outputs: list[Any] = ReferenceEvaluator(onnx.load(path)).run(None, dict(feed))
    return outputs


@pytest.mark.parametrize("engine", STYLES)
@pytest.mark.parametrize("kind", ["mlp", "attention"])
def test_the_outputs_are_those_of_the_graph_to_eight_bits(
    kind: str, engine: str, tmp_path: Path
) -> None:
    """Products are bfloat16, ports are not, and ONNX's reference answers within a few roundings."""
    model = getattr(testing, kind)(tmp_path / "m.onnx")
    feed = testing.request(model, batch=4).inputs if kind == "mlp" else testing.tokens().inputs
    made = _applied(model, tmp_path / "out", STYLES[engine])
    kinds = types_of(made.model.path)
    operators = {n.name: n.op_type for n in onnx.load(made.model.path).graph.node}
    assert {kinds[n] for n, o in operators.items() if o == "MatMul"} == {"BFLOAT16"}
    assert {kinds[n] for n, o in operators.items() if o in ("Softmax", "ReduceSum")} <= {"FLOAT"}
    assert [p.dtype for p in made.model.outputs] == [p.dtype for p in model.outputs]
    wanted, found = _answers(model.path, feed), _answers(made.model.path, feed)
    for exact, rounded in zip(wanted, found, strict=True):
        assert rounded.dtype == np.float32
        worst = np.abs(rounded - exact).max() / np.abs(exact).max()
        assert 0 < worst < 2**-6


def test_it_halves_the_weights(tmp_path: Path) -> None:
    """Those that bfloat16 alone reads take two bytes, and stand there once."""
    model = testing.mlp(tmp_path / "m.onnx", width=128)
    made = _applied(model, tmp_path / "out")
    assert made.model.path.stat().st_size < 0.6 * model.path.stat().st_size
    kinds = {t.data_type for t in onnx.load(made.model.path).graph.initializer}
    assert kinds == {TensorProto.BFLOAT16}


def test_it_halves_the_weights_that_an_old_graph_lists_as_inputs(tmp_path: Path) -> None:
    """They are constants to accel, whose ports are without them: no call casts them."""
    model = listed(testing.mlp(tmp_path / "m.onnx"))
    made = _applied(model, tmp_path / "out")
    proto = onnx.load(made.model.path)
    assert {t.data_type for t in proto.graph.initializer} == {TensorProto.BFLOAT16}
    assert [v.name for v in proto.graph.input] == ["x"]
    assert (made.model.inputs, made.model.outputs) == (model.inputs, model.outputs)


@pytest.mark.parametrize("engine", STYLES)
def test_an_engine_that_takes_bf16_gets_a_graph_that_it_reads(engine: str, tmp_path: Path) -> None:
    """It is no release's portable graph: ONNX Runtime's CPU provider, which many have, refuses it."""
    assert catalog.load("engines", engine).recipes(H200)["bf16"] is None
    made = _applied(testing.mlp(tmp_path / "m.onnx"), tmp_path / "out", STYLES[engine])
    assert (made.portable, made.only) == (False, engine)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented):
        onnxruntime.InferenceSession(made.model.path, providers=["CPUExecutionProvider"])


def test_openvino_keeps_its_hint_and_the_graph(tmp_path: Path) -> None:
    """Its plugin makes bfloat16 of float32 itself, so the graph is the same to the byte."""
    model = testing.mlp(tmp_path / "m.onnx")
    style = QuantStyle(True, False, True, False, True, operators=("openvino",))
    made = _applied(model, tmp_path / "out", style)
    assert (made.portable, made.only, made.facts) == (False, "openvino", {"hint": "bf16"})
    assert store.digest_file(made.model.path) == store.digest_file(model.path)


@pytest.mark.parametrize(("opset", "kind"), [(17, "FLOAT"), (22, "BFLOAT16")])
def test_the_opset_decides_about_convolutions(opset: int, kind: str, tmp_path: Path) -> None:
    """ONNX has bfloat16 convolutions from opset 22 on; before, they stay and are counted."""
    model = testing.convnet(tmp_path / "m.onnx")
    made = _applied(_upgraded(model, opset, tmp_path / "o.onnx"), tmp_path / "out")
    kinds = types_of(made.model.path)
    convolutions = [n.name for n in onnx.load(made.model.path).graph.node if n.op_type == "Conv"]
    assert {kinds[n] for n in convolutions} == {kind}
    assert ("no bfloat16" in made.facts["kept in fp32"]) == (opset == 17)


def test_an_opset_without_bfloat16_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Opset 12 has none at all: the graph is not passed off as bf16."""
    model = _model(tmp_path / "m.onnx", [("Relu", "x", "y", {})], opset=12)
    with pytest.raises(CandidateBroken, match=r"1 no bfloat16 of 1 float nodes at opset 12; .* 13"):
        _applied(model, tmp_path / "out")


def test_what_onnxruntime_has_no_cuda_kernel_of_stays_float32_for_it(tmp_path: Path) -> None:
    """Clip has one in TensorRT and none in ONNX Runtime's CUDA provider, nor on its CPU."""
    nodes: list[Node] = [
        ("MatMul", "x w", "m", {}),
        ("Clip", "m", "c", {}),
        ("MatMul", "c w", "y", {}),
    ]
    model = _model(tmp_path / "m.onnx", nodes, w=np.eye(8, dtype=np.float32))
    for engine, kind in {"tensorrt": "BFLOAT16", "onnxruntime_cuda": "FLOAT"}.items():
        kinds = types_of(_applied(model, tmp_path / engine, STYLES[engine]).model.path)
        assert (kinds["clip_c"], kinds["matmul_m"]) == (kind, "BFLOAT16")


def test_positions_and_their_angles_stay_exact(tmp_path: Path) -> None:
    """bfloat16 does not tell position 501 from 500: what leads to a cosine is not rounded."""
    model = rotary(tmp_path / "m.onnx", 22)
    made = _applied(model, tmp_path / "out")
    kinds = types_of(made.model.path)
    exact = ("cast_p", "unsqueeze_column", "matmul_angles", "cos_c")
    assert {kinds[n] for n in exact} == {"FLOAT"}
    assert {kinds[n] for n in ("matmul_m", "mul_r", "matmul_y")} == {"BFLOAT16"}
    feed = {"x": np.ones((512, 8), np.float32)}
    (wanted,), (found,) = _answers(model.path, feed), _answers(made.model.path, feed)
    np.testing.assert_allclose(found, wanted, atol=2**-6)


def test_sizes_that_become_integers_stay_exact(tmp_path: Path) -> None:
    """A third of 1001 rows is 333, and not what bfloat16 makes of it."""
    nodes: list[Node] = [
        ("MatMul", "x w", "m", {}),
        ("Shape", "m", "s", {"end": 1}),
        ("Cast", "s", "f", {"to": F}),
        ("Div", "f three", "h", {}),
        ("Cast", "h", "k", {"to": TensorProto.INT64}),
        ("Slice", "m zero k zero", "t", {}),
        ("Relu", "t", "y", {}),
    ]
    weights = {"three": np.float32(3), "zero": np.array([0]), "w": np.eye(8, dtype=np.float32)}
    model = _model(tmp_path / "m.onnx", nodes, **weights)
    made = _applied(model, tmp_path / "out")
    assert made.facts["kept in fp32"] == "2 exact, 1 no bfloat16"
    feed = {"x": np.ones((1001, 8), np.float32)}
    (wanted,), (found,) = _answers(model.path, feed), _answers(made.model.path, feed)
    assert found.shape == wanted.shape == (333, 8)


LEAST = np.finfo(np.float32).min


def test_the_least_number_of_a_mask_stays_finite(tmp_path: Path) -> None:
    """float32's least rounds to -inf, of which a fully masked row would be NaN; -inf itself stays."""
    mask = np.array([LEAST, -np.inf] * 4, np.float32)
    model = _model(tmp_path / "m.onnx", [("Add", "x mask", "y", {})], mask=mask)
    made = _applied(model, tmp_path / "out")
    (tensor,) = onnx.load(made.model.path).graph.initializer
    values = numpy_helper.to_array(tensor)
    assert values.dtype == ml_dtypes.bfloat16
    assert float(values[0]) == float(ml_dtypes.finfo(ml_dtypes.bfloat16).min)
    assert float(values[1]) == -np.inf


def test_so_does_a_mask_that_float32_nodes_make(tmp_path: Path) -> None:
    """ConstantOfShape has no bfloat16 at opset 17: its mask is cast, and a masked row is no NaN."""
    value = numpy_helper.from_array(np.array([LEAST], np.float32))
    nodes: list[Node] = [
        ("MatMul", "x w", "m", {}),
        ("Shape", "m", "s", {}),
        ("ConstantOfShape", "s", "mask", {"value": value}),
        ("Add", "m mask", "a", {}),
        ("Softmax", "a", "y", {}),
    ]
    model = _model(tmp_path / "m.onnx", nodes, opset=17, w=np.eye(8, dtype=np.float32))
    made = _applied(model, tmp_path / "out")
    kinds = types_of(made.model.path)
    assert (kinds["constantofshape_mask"], kinds["add_a"]) == ("FLOAT", "BFLOAT16")
    (found,) = _answers(made.model.path, {"x": np.ones((2, 8), np.float32)})
    np.testing.assert_allclose(found, np.full((2, 8), 1 / 8), atol=2**-8)


@pytest.mark.parametrize("engine", STYLES)
@pytest.mark.parametrize("kind", ["mlp", "convnet", "attention"])
def test_the_gpu_engines_find_nothing_to_object_to(kind: str, engine: str, tmp_path: Path) -> None:
    """TensorRT 10.16 on an H200 types strongly: the casts written are those that it wants."""
    model = getattr(testing, kind)(tmp_path / "m.onnx")
    requests = (
        [testing.tokens(batch=b, length=n) for b, n in ((1, 5), (2, 9))]
        if kind == "attention"
        else [testing.request(model, batch=b) for b in (1, 4)]
    )
    for opset in (17, 22):
        later = _upgraded(model, opset, tmp_path / f"{opset}.onnx")
        made = _applied(later, tmp_path / f"out-{opset}", STYLES[engine])
        assert legality.check(made.model.path, H200, requests) == ()
