"""What is written runs, gives nearly the same, and has its pairs where the engine fuses them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import graph, testing
from accel.calibration.collect import collect
from accel.qdq import place, write
from accel.qdq.numbers import Steps
from accel.qdq.sites import PRODUCTS, sites
from accel.ranges import minmax

F = TensorProto.FLOAT
DRAW = np.random.default_rng(11)
U8S8 = write.How(Steps(False, False), Steps(True, True), bias=True)
S8S8 = write.How(Steps(True, True), Steps(True, True), dedicated=True)
HOWS = {
    "U8S8": U8S8,
    "S8S8": S8S8,
    "per tensor": write.How(Steps(False, False), Steps(True, True), False),
}


def residual(path: Path) -> Any:
    """conv -> relu -> conv -> + -> relu -> mean -> Gemm, as in a ResNet."""

    def weight(name: str, *shape: int) -> Any:
        return numpy_helper.from_array((DRAW.normal(size=shape) / 6).astype(np.float32), name)

    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "k0", "b0"], ["c0"], "conv0", **pads),
        helper.make_node("Relu", ["c0"], ["r0"], "relu0"),
        helper.make_node("Conv", ["r0", "k1", "b0"], ["c1"], "conv1", **pads),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "k2"], ["c2"], "conv2", **pads),
        helper.make_node("Add", ["c2", "r0"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["r2"], "relu2"),
        helper.make_node("Conv", ["r2", "k3"], ["c3"], "conv3", **pads),
        helper.make_node("GlobalAveragePool", ["c3"], ["m"], "mean"),
        helper.make_node("Flatten", ["m"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w"], ["y"], "gemm", transB=1),
    ]
    weights = [weight("k0", 8, 3, 3, 3), weight("b0", 8), *(weight(f"k{i}", 8, 8, 3, 3) for i in (1, 2, 3)),
               weight("w", 5, 8)]  # fmt: skip
    body = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", F, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", F, ["n", 5])], weights,
    )  # fmt: skip
    proto = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(proto, path)
    return graph.open_model(path)


@pytest.fixture
def proto(tmp_path: Path) -> Any:
    return residual(tmp_path / "m.onnx")


@pytest.fixture
def feeds() -> list[dict[str, Any]]:
    return [{"x": DRAW.normal(size=(4, 3, 8, 8)).astype(np.float32)} for _ in range(8)]


def quantized(proto: Any, feeds: Any, folder: Path, way: Any, how: write.How, *left: str) -> Any:
    path = folder / "source.onnx"
    onnx.save(proto, path)
    seen = collect(path, feeds).sketches
    found = sites(proto)
    placing = place.place(proto, found, {s.name for s in found} - {*left}, way)
    ranges = {n: minmax.of(seen[n], 255, False) for n in place.tensors(proto, placing)}
    return write.written(proto, placing, ranges, how, seen)


def run(proto: Any, feed: Any) -> Any:
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)[0]


def pairs(proto: Any) -> set[str]:
    """Values that have a pair."""
    return {n.input[0] for n in proto.graph.node if n.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("way", ["around", "inputs"])
@pytest.mark.parametrize("how", HOWS)
def test_it_is_valid_and_close(proto: Any, feeds: Any, tmp_path: Path, way: Any, how: str) -> None:
    """It passes ONNX's checker in full, and its outputs are within a few hundredths."""
    made = quantized(proto, feeds, tmp_path, way, HOWS[how])
    onnx.checker.check_model(made, full_check=True)
    want, got = run(proto, feeds[0]), run(made, feeds[0])
    assert np.linalg.norm(got - want) < 0.1 * np.linalg.norm(want)
    assert not np.array_equal(got, want)
    weights = Counter(
        t.data_type for t in made.graph.initializer if t.dims and np.prod(t.dims) >= 40
    )
    assert weights == {TensorProto.INT8: 5}  # no float weight is left, all are int8


def test_around_a_convolution_for_onnx_runtime(proto: Any, feeds: Any, tmp_path: Path) -> None:
    """Every convolution, the addition and the mean have int8 on both sides; the output has not."""
    made = quantized(proto, feeds, tmp_path, "around", U8S8)
    assert pairs(made) == {"x", "r0", "r1", "c2", "r2", "c3", "m", "f"}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])
    found = graph.operators(onnx.load(tmp_path / "optimized.onnx"))
    fused = {name.rpartition(".")[2]: count for name, count in found.items()}
    assert fused["QLinearConv"] == 4
    assert fused["QLinearAdd"] == 1
    assert not {"Conv", "Add", "Relu", "Gemm"} & fused.keys()


def test_at_inputs_for_openvino_and_tensorrt(proto: Any, feeds: Any, tmp_path: Path) -> None:
    """The product that an addition is fused with keeps its sum in float32; the other side is int8."""
    made = quantized(proto, feeds, tmp_path, "inputs", S8S8)
    assert pairs(made) == {"x", "r0", "r1", "r2", "c3", "f"}
    add = next(n for n in made.graph.node if n.name == "add")
    assert add.input[0] == "c2"
    assert add.input[1].startswith("r0__float")


def test_dedicated_pairs_are_not_shared(proto: Any, feeds: Any, tmp_path: Path) -> None:
    """One reader each."""
    made = quantized(proto, feeds, tmp_path, "inputs", S8S8)
    readers = Counter(n for node in made.graph.node for n in node.input)
    backs = [n.output[0] for n in made.graph.node if n.op_type == "DequantizeLinear"]
    assert {readers[b] for b in backs} == {1}


@pytest.mark.parametrize("way", ["around", "inputs"])
def test_what_is_left_alone_keeps_its_weights(
    proto: Any, feeds: Any, tmp_path: Path, way: Any
) -> None:
    """A reverted convolution reads its float weight, and the graph is the more exact for it."""
    every = quantized(proto, feeds, tmp_path, way, U8S8)
    fewer = quantized(proto, feeds, tmp_path, way, U8S8, *(f"conv{i}" for i in range(4)))
    assert {"k0", "k1", "k2"} <= {t.name for t in fewer.graph.initializer}
    errors = [sum(np.sum((run(m, f) - run(proto, f)) ** 2) for f in feeds) for m in (every, fewer)]
    assert errors[1] < errors[0]


def test_nothing_left_is_the_graph_itself(proto: Any, feeds: Any, tmp_path: Path) -> None:
    """With every site left alone not a bit changes."""
    names = [s.name for s in sites(proto)]
    made = quantized(proto, feeds, tmp_path, "around", U8S8, *names)
    assert graph.digest(made) == graph.digest(proto)


def test_products_alone_in_a_transformer(tmp_path: Path) -> None:
    """Of an attention: its five products."""
    model = testing.attention(tmp_path / "m.onnx")
    proto = graph.open_model(model.path)
    feeds = [testing.tokens(batch=2, length=n).inputs for n in (4, 6)]
    seen = collect(model.path, feeds).sketches
    found = sites(proto)
    placing = place.place(proto, found, {s.name for s in found if s.operator in PRODUCTS}, "inputs")
    ranges = {n: minmax.of(seen[n], 255, False) for n in place.tensors(proto, placing)}
    made = write.written(proto, placing, ranges, U8S8)
    onnx.checker.check_model(made, full_check=True)
    assert pairs(made) == {"embedded", "query", "key_t", "weights", "value"}
    want, got = (onnxruntime.InferenceSession(p.SerializeToString()).run(["pooled"], feeds[0])[0] for p in (proto, made))  # fmt: skip
    assert np.linalg.norm(got - want) < 0.05 * np.linalg.norm(want)


def test_a_bias_that_is_shared_serves_both(proto: Any, feeds: Any, tmp_path: Path) -> None:
    """conv0 and conv1 read one bias, with a scale of its own in each."""
    made = quantized(proto, feeds, tmp_path, "around", U8S8)
    biases = {n.name: n.input[2] for n in made.graph.node if n.op_type == "Conv"}
    assert biases["conv0"] != biases["conv1"]


def test_correction_brings_the_mean_back(proto: Any, feeds: Any, tmp_path: Path) -> None:
    """With coarse weights, a channel's mean is nearer to the float one's with its bias corrected."""
    feeds = [{"x": np.abs(f["x"])} for f in feeds]  # a mean of 0 is shifted by nothing
    seen = collect(tmp_path / "m.onnx", feeds).sketches
    placing = place.place(proto, sites(proto), {"conv0"}, "inputs")
    ranges = {n: minmax.of(seen[n], 255, False) for n in place.tensors(proto, placing)}
    coarse = write.How(Steps(False, False), Steps(True, True, 3))
    wanted = _mean(proto, feeds)
    off = [
        np.abs(_mean(write.written(proto, placing, ranges, coarse, means), feeds) - wanted).mean()
        for means in (None, seen)
    ]
    assert off[1] < 0.7 * off[0]


def test_a_bias_that_a_node_makes_is_left_alone(proto: Any, feeds: Any, tmp_path: Path) -> None:
    """Correction gives no second bias to a convolution that has one, constant or not."""
    bias = next(t for t in proto.graph.initializer if t.name == "b0")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["b0"], value=bias))
    proto.graph.initializer.remove(bias)
    seen = collect(tmp_path / "m.onnx", feeds).sketches
    placing = place.place(proto, sites(proto), {"conv0", "conv1", "conv3"}, "inputs")
    ranges = {n: minmax.of(seen[n], 255, False) for n in place.tensors(proto, placing)}
    made = write.written(proto, placing, ranges, U8S8, seen)
    onnx.checker.check_model(made, full_check=True)
    biases = {n.name: list(n.input[2:]) for n in made.graph.node if n.op_type == "Conv"}
    assert biases["conv0"] == biases["conv1"] == ["b0"]
    assert len(biases["conv3"]) == 1


def test_what_is_added_along_the_last_axis_is_no_bias_of_a_convolution(tmp_path: Path) -> None:
    """As many numbers as channels, by chance: the convolution's correction is a bias of its own."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 8, 8] x) => (float[n, 8, 8] y) <float[8, 8, 1] k, float[8] a = {1,2,3,4,5,6,7,8}>
    { c0 = Conv(x, k)  y = Add(c0, a) }
    """
    proto = onnx.parser.parse_model(text)
    kernel = DRAW.normal(size=(8, 8, 1)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(kernel, "k"))
    onnx.save(proto, tmp_path / "m.onnx")
    feeds = [{"x": DRAW.random((4, 8, 8), np.float32)} for _ in range(8)]
    seen = collect(tmp_path / "m.onnx", feeds).sketches
    placing = place.place(proto, sites(proto), {s.name for s in sites(proto)}, "inputs")
    ranges = {n: minmax.of(seen[n], 255, False) for n in place.tensors(proto, placing)}
    coarse = write.How(Steps(False, False), Steps(True, True, 3))
    made = write.written(proto, placing, ranges, coarse, seen)
    conv, add = (next(n for n in made.graph.node if n.op_type == t) for t in ("Conv", "Add"))
    assert add.input[1] == "a"
    assert len(conv.input) == 3


def _mean(proto: Any, feeds: Any) -> Any:
    tapped = onnx.ModelProto()
    tapped.CopyFrom(proto)
    tapped.graph.output.append(helper.make_tensor_value_info("c0", F, None))
    session = onnxruntime.InferenceSession(tapped.SerializeToString())
    return np.mean([session.run(["c0"], f)[0].mean(axis=(0, 2, 3)) for f in feeds], axis=0)
