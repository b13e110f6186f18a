"""fp16: what is measured to leave the range stays float32, and the outputs stay close."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from small_graphs import F, Node, drawn, types_of

from accel import arrays, catalog, testing
from accel.errors import CandidateBroken, UsageError
from accel.protocols import Quantized
from accel.recipes import _calibration
from accel.steps.quantize import quantize
from accel.values import Feed, Model, QuantStyle

STYLE = QuantStyle(True, True, True, True, True)


def _model(path: Path, nodes: Sequence[Node], opset: int = 17, **weights: Any) -> Model:
    return drawn(path, nodes, opset, **weights)


def _applied(model: Model, feeds: Sequence[Feed], folder: Path, keep: str = "range") -> Quantized:
    folder.mkdir(exist_ok=True)
    made: Quantized = catalog.load("recipes", "fp16").apply(
        model, feeds, STYLE, {"keep": keep}, folder
    )
    onnx.checker.check_model(onnx.load(made.model.path), full_check=True)
    return made


def _run(path: Path, feed: Feed) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs: list[Any] = session.run(None, dict(feed))
    return outputs


def _x(scale: float = 1.0) -> Feed:
    return {"x": (scale * np.random.default_rng(0).normal(size=(2, 8))).astype(np.float32)}


SQUARES: list[Node] = [
    ("Mul", "x big", "m", {}),
    ("Mul", "m m", "s", {}),
    ("Mul", "s small", "r", {}),
    ("Relu", "r", "y", {}),
]


def test_what_overflows_stays_and_its_neighbours_do_not(tmp_path: Path) -> None:
    """Squares of 300 leave float16: the node that makes them and the one that reads them stay."""
    model = _model(tmp_path / "m.onnx", SQUARES, big=np.float32(300), small=np.float32(1e-4))
    made = _applied(model, [_x()], tmp_path / "out")
    kinds = types_of(made.model.path)
    assert (kinds["mul_m"], kinds["relu_y"]) == ("FLOAT16", "FLOAT16")
    assert (kinds["mul_s"], kinds["mul_r"]) == ("FLOAT", "FLOAT")
    assert made.facts["kept in fp32"] == "2 range"
    assert made.facts["out of range"].startswith("s ")
    (wanted,), (found,) = (_run(p, _x()) for p in (model.path, made.model.path))
    np.testing.assert_allclose(found, wanted, rtol=5e-3, atol=1e-3)
    assert found.dtype == np.float32


def test_it_measures_and_does_not_guess(tmp_path: Path) -> None:
    """The same graph over data that is a thousandth as large is in float16 as a whole."""
    model = _model(tmp_path / "m.onnx", SQUARES, big=np.float32(300), small=np.float32(1e-4))
    made = _applied(model, [_x(1e-3), _x(1e-1)], tmp_path / "out")
    assert made.facts["fp16"] == "4 of 4 nodes"


def test_the_largest_of_all_feeds_counts(tmp_path: Path) -> None:
    """One feed among many that leaves the range is enough, wherever it stands."""
    model = _model(tmp_path / "m.onnx", SQUARES, big=np.float32(300), small=np.float32(1e-4))
    made = _applied(model, [_x(1e-1), _x(), _x(1e-1)], tmp_path / "out")
    assert made.facts["kept in fp32"] == "2 range"


def test_infinite_values_stay(tmp_path: Path) -> None:
    """A mask of -inf: how large its finite values are cannot be told, so its readers stay."""
    nodes: list[Node] = [
        ("Add", "x mask", "a", {}),
        ("Softmax", "a", "s", {}),
        ("Relu", "s", "y", {}),
    ]
    mask = np.array([0, -np.inf] * 4, np.float32)
    made = _applied(_model(tmp_path / "m.onnx", nodes, mask=mask), [_x()], tmp_path / "out")
    assert made.facts["kept in fp32"] == "2 range"
    assert types_of(made.model.path)["relu_y"] == "FLOAT16"


NORM: list[Node] = [
    ("ReduceMean", "x", "m", {"axes": [-1]}),
    ("Sub", "x m", "c", {}),
    ("Pow", "c two", "p", {}),
    ("ReduceMean", "p", "v", {"axes": [-1]}),
    ("Add", "v eps", "e", {}),
    ("Sqrt", "e", "d", {}),
    ("Div", "c d", "y", {}),
]


def test_sums_and_squares_stay_when_asked(tmp_path: Path) -> None:
    """A norm that is written out: its reductions, Pow and Sqrt in float32; and the sum between them,
    whose constant vanishes in float16."""
    weights = {"two": np.float32(2), "eps": np.float32(1e-12)}
    model = _model(tmp_path / "m.onnx", NORM, **weights)
    made = _applied(model, [_x()], tmp_path / "out", keep="sensitive")
    kinds = Counter(
        types_of(made.model.path)[n] for n in ("pow_p", "reducemean_v", "add_e", "sqrt_d")
    )
    assert kinds == {"FLOAT": 4}
    assert types_of(made.model.path)["div_y"] == "FLOAT16" or made.facts["fp16"]
    (wanted,), (found,) = (_run(p, _x()) for p in (model.path, made.model.path))
    np.testing.assert_allclose(found, wanted, rtol=5e-3, atol=2e-3)


def test_weights_that_vanish_stay(tmp_path: Path) -> None:
    """A matrix of which a tenth is below half of 2^-24, and is not 0, keeps its product in float32."""
    w = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    w[0] = 1e-9
    nodes: list[Node] = [("MatMul", "x w", "h", {}), ("Relu", "h", "y", {})]
    made = _applied(_model(tmp_path / "m.onnx", nodes, w=w), [_x()], tmp_path / "out")
    assert made.facts["kept in fp32"] == "1 weights"
    w[0] = 0.0
    made = _applied(_model(tmp_path / "n.onnx", nodes, w=w), [_x()], tmp_path / "none")
    assert made.facts["kept in fp32"] == "nothing"


def test_where_nothing_fits_it_is_refused(tmp_path: Path) -> None:
    """A graph whose every value leaves the range is not passed off as float16."""
    model = _model(tmp_path / "m.onnx", [("Mul", "x big", "y", {})], big=np.float32(1e6))
    with pytest.raises(CandidateBroken, match="nothing is left in float16: 1 range"):
        _applied(model, [_x()], tmp_path / "out")


def test_weights_are_halved_once_and_the_file_is_smaller(tmp_path: Path) -> None:
    """No float32 copy of a weight that only float16 nodes read is left."""
    model = testing.mlp(tmp_path / "m.onnx", width=128)
    made = _applied(model, [testing.request(model).inputs], tmp_path / "out")
    tensors = {t.name: t.data_type for t in onnx.load(made.model.path).graph.initializer}
    assert set(tensors.values()) == {TensorProto.FLOAT16}
    assert made.model.path.stat().st_size < 0.6 * model.path.stat().st_size
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.onnx"]


def test_bodies_of_subgraphs_stay(tmp_path: Path) -> None:
    """What an If reads from outside is there in float32, although its maker is in float16."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["r"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, F, ["n", 8])],
        )
        for name, operator in (("then", "Neg"), ("else", "Abs"))
    }
    nodes: list[Node] = [
        ("Relu", "x", "r", {}),
        ("ReduceMax", "x", "t", {"keepdims": 0}),
        ("Cast", "t", "c", {"to": TensorProto.BOOL}),
        ("If", "c", "y", branches),
    ]
    model = _model(tmp_path / "m.onnx", nodes)
    made = _applied(model, [_x()], tmp_path / "out")
    assert types_of(made.model.path)["if_y"] == "FLOAT"
    (wanted,), (found,) = (_run(p, _x()) for p in (model.path, made.model.path))
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-3)


def test_masks_stay_and_attention_answers_alike(tmp_path: Path) -> None:
    """-1e9 in a mask is beyond float16: the sum and the softmax over it stay, whatever is kept."""
    model = testing.attention(tmp_path / "m.onnx", width=16)
    feeds = [testing.tokens(batch=2, length=n).inputs for n in (3, 7)]
    for keep in ("sensitive", "range"):
        made = _applied(model, feeds, tmp_path / keep, keep)
        kinds = types_of(made.model.path)
        assert (kinds["add_masked"], kinds["softmax_weights"]) == ("FLOAT", "FLOAT")
        assert kinds["matmul_query"] == "FLOAT16"
        for wanted, found in zip(
            _run(model.path, feeds[1]), _run(made.model.path, feeds[1]), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=5e-3)


@pytest.mark.parametrize(
    "node",
    [
        ("RandomUniformLike", "x", "r", {"dtype": F}),
        ("ConstantOfShape", "shape", "r", {}),
        ("Bernoulli", "x", "r", {"dtype": F}),
    ],
    ids=lambda node: node[0],
)
def test_what_an_attribute_makes_float32_stays_so(node: Node, tmp_path: Path) -> None:
    """No product of the two precisions is written."""
    nodes: list[Node] = [
        ("Abs", "x", "a", {}),
        node,
        ("Mul", "a r", "m", {}),
        ("Relu", "m", "y", {}),
    ]
    weights = {"shape": np.array([2, 8], np.int64)} if node[0] == "ConstantOfShape" else {}
    feeds = [_x()] if node[0] != "Bernoulli" else [{"x": np.abs(_x()["x"]).clip(0, 1)}]
    made = _applied(_model(tmp_path / "m.onnx", nodes, **weights), feeds, tmp_path / "out")
    _run(made.model.path, feeds[0])


def test_an_empty_tensor_does_not_overflow(tmp_path: Path) -> None:
    """A decoder's first step has no past: the largest of nothing is -inf, and says nothing."""
    nodes: list[Node] = [("Relu", "x", "a", {}), ("Relu", "a", "y", {})]
    model = _model(tmp_path / "m.onnx", nodes)
    empty = {"x": np.zeros((0, 8), np.float32)}
    made = _applied(model, [empty, _x()], tmp_path / "out")
    assert "inf" not in str(dict(made.facts))
    assert set(types_of(made.model.path).values()) >= {"FLOAT16"}


def test_calibration_data_may_be_larger_than_what_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Feeds are read one at a time: the limit is on each, not on the file."""
    model = testing.mlp(tmp_path / "m.onnx")
    feed = testing.request(model, batch=64).inputs
    arrays.save(tmp_path / "feeds.npz", [feed] * 3)
    monkeypatch.setattr(arrays, "LARGEST_BYTES", 2 * feed["x"].nbytes)
    with pytest.raises(UsageError, match="at most 8 GB"):
        arrays.load(tmp_path / "feeds.npz")
    made = quantize(
        model, "fp16", tmp_path / "feeds.npz", STYLE, {"keep": "range"}, tmp_path / "out"
    )
    assert made.facts["calibration feeds"] == 3


def test_no_feed_beyond_the_most_is_asked_for(tmp_path: Path) -> None:
    """Of a stream that would not fit into memory, a recipe holds what it uses."""
    model, asked = testing.mlp(tmp_path / "m.onnx"), []

    def stream() -> Iterator[Feed]:
        for i in range(9):
            asked.append(i)
            yield testing.request(model, batch=2).inputs

    assert len(_calibration.checked("fp16", stream(), model, 3)) == 3
    assert asked == [0, 1, 2]
