"""Engines on a real GPU: right, wholly on it, graphs replayed, TF32 only where it is asked for.

tests/contracts/test_engine.py runs there too, for every engine that the machine can use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from accel import catalog, placement, testing
from accel import target as targets
from accel.engines import onnxruntime_cuda as ort
from accel.engines import torch_inductor as inductor
from accel.errors import CandidateBroken
from accel.measure import here
from accel.values import Feed, Model, Options, Plan, Port, Request, Target

SIDE = 512
EXACT = 1e-4  # |got - want| / (1 + |want|) of fp32 sums of 512 products; a CPU's are off by 2e-5
TF32 = 1e-3  # inputs rounded to 10 bits are off by 1.5e-2 at worst, as numpy has it
PORTS = (Port("x", "float32", ("n", SIDE)),), (Port("y", "float32", ("n", SIDE)),)
PRODUCT = f"""
import numpy as np
import torch

outputs = ("y",)
dynamic = {{"x": {{0: "n"}}}}

class Product(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.w = torch.nn.Parameter(torch.randn({SIDE}, {SIDE}))

    def forward(self, x):
        return x @ self.w

def model():
    return Product().eval()

def inputs():
    return {{"x": np.ones((2, {SIDE}), np.float32)}}
"""


@pytest.fixture(scope="module")
def here_target() -> Target:
    """This machine, with its GPU's compute capability."""
    gpu = here.gpus()[0]
    plain = targets.load("cpu-local")
    return dataclasses.replace(plain, compute_capability=gpu.compute_capability, threads=2)


@pytest.fixture(scope="module")
def usable() -> None:
    """ONNX Runtime can use the GPU."""
    answer = ort.probe()
    if not answer.usable:
        reason = f"{answer.reason} {answer.fix}"
        pytest.skip(f"{reason}; instead: tests/engines/test_onnxruntime_cuda.py")


Build = Callable[[Model, Options, list[Request]], Plan]


@pytest.fixture
def build(usable: None, here_target: Target, tmp_path: Path) -> Build:
    """onnxruntime_cuda's plan of a model."""

    def made(model: Model, options: Options, requests: list[Request]) -> Plan:
        out = tmp_path / f"plan-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        return ort.build(model, here_target, {"threads": 2, **options}, requests, out)

    return made


def _requests(model: Model) -> list[Request]:
    if "ids" in {p.name for p in model.inputs}:
        return [testing.tokens(length=n, batch=b) for b, n in ((1, 3), (2, 9))]
    return [testing.request(model, batch=n) for n in (1, 4)]


def _answers(plan: Plan, feeds: list[Feed]) -> list[dict[str, Any]]:
    with closing(catalog.load("engines", plan.engine).load(plan)) as session:
        found = []
        for feed in (*feeds, *feeds):  # the second time replays
            found.append(session(feed))
            bound = session.bind(feed)
            bound()
            for got, want in zip(bound(), found[-1].values(), strict=True):
                np.testing.assert_array_equal(np.asarray(got), want)
        return found[len(feeds) :]


@pytest.mark.parametrize("name", ["mlp", "convnet", "attention"])
def test_it_is_right_and_wholly_on_the_gpu(
    build: Build, here_target: Target, tmp_path: Path, name: str
) -> None:
    """With every setting for fp32: outputs, no node fallen, no copy, graphs captured as asked."""
    model = getattr(testing, name)(tmp_path / "graph.onnx")
    requests = _requests(model)
    feeds = [r.inputs for r in requests]
    yardstick = catalog.load("engines", "reference")
    (tmp_path / "reference").mkdir()
    plain = yardstick.build(model, here_target, {}, [], tmp_path / "reference")
    with closing(yardstick.load(plain)) as session:
        wanted = [session(feed) for feed in feeds]
    for options in ort.options("fp32", here_target, requests, {}):
        plan = build(model, options, requests)
        assert plan.placement is not None
        assert placement.fallen(plan.placement) == ()
        assert placement.copies(plan.placement) == 0
        assert placement.coverage(plan.placement)["GPU"] == 1.0
        assert (plan.facts["strict"], plan.facts["fallen"]) == (True, {})
        assert (plan.facts["cuda_graphs_captured"] > 0) == options["cuda_graph"]
        assert plan.facts["gpu"] == here.gpus()[0].name
        allowed = 2e-2 if options.get("tf32") else 1e-4
        for found, want in zip(_answers(plan, feeds), wanted, strict=True):
            for key in want:
                np.testing.assert_allclose(found[key], want[key], allowed, allowed)


def _fallen(tmp_path: Path) -> Model:
    """det(x @ x): ONNX Runtime has no Det on a GPU."""
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["p"], "product"),
        helper.make_node("Det", ["p"], ["d"], "determinant"),
        helper.make_node("Mul", ["d", "d"], ["y"], "square"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    made = helper.make_graph(nodes, "g", [x], [y])
    path = tmp_path / "det.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=8), path)
    ports = (Port("x", "float32", ("n", 3, 3)),), (Port("y", "float32", ("n",)),)
    return Model(path, "det", *ports)


def test_a_fallen_node_and_its_copies_are_told(build: Build, tmp_path: Path) -> None:
    """By operator; the answer is right, and a CUDA graph of it is refused with the cause."""
    model = _fallen(tmp_path)
    x = np.random.default_rng(0).normal(size=(5, 3, 3)).astype(np.float32)
    requests = [Request("g", 1.0, {"x": x})]
    plan = build(model, {}, requests)
    assert plan.placement is not None
    [fell] = placement.fallen(plan.placement)
    assert (fell.operator, fell.device, fell.nodes) == ("Det", "CPU", ("determinant",))
    assert placement.copies(plan.placement) == plan.facts["copies"] == 2
    assert (plan.facts["strict"], plan.facts["fallen"]) == (False, {"Det": 1})
    [answer] = _answers(plan, [{"x": x}])
    np.testing.assert_allclose(answer["y"], np.linalg.det(x @ x) ** 2, 1e-3, 1e-3)
    with pytest.raises(CandidateBroken, match=r"2 tensors are copied .* Det"):
        build(model, {"cuda_graph": True}, requests)


def _reshaped(tmp_path: Path) -> Model:
    """x @ x, then flattened to [n, 9] by arithmetic on its own sizes."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], "shape"),
        helper.make_node("Gather", ["s", "zero"], ["n"], "first"),
        helper.make_node("Concat", ["n", "rest"], ["to"], "sizes", axis=0),
        helper.make_node("MatMul", ["x", "x"], ["p"], "product"),
        helper.make_node("Reshape", ["p", "to"], ["y"], "reshape"),
    ]
    fixed = [
        helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in (("zero", 0), ("rest", -1))
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 9])
    path = tmp_path / "reshaped.onnx"
    opset = [helper.make_opsetid("", 17)]
    made = helper.make_graph(nodes, "g", [x], [y], fixed)
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=8), path)
    ports = (Port("x", "float32", ("n", 3, 3)),), (Port("y", "float32", ("n", 9)),)
    return Model(path, "reshaped", *ports)


def test_shape_arithmetic_on_the_host_is_no_fall(build: Build, tmp_path: Path) -> None:
    """It is listed, nothing is copied for it, and CUDA graphs are captured around it."""
    x = np.random.default_rng(0).normal(size=(5, 3, 3)).astype(np.float32)
    model = _reshaped(tmp_path)
    plan = build(model, {"cuda_graph": True}, [Request("g", 1.0, {"x": x})])
    assert plan.placement is not None
    assert placement.fallen(plan.placement) == ()
    assert placement.copies(plan.placement) == 0
    assert {row.operator for row in plan.placement.placed if row.device == "CPU"} <= {
        "Gather",
        "Concat",
    }
    assert plan.facts["cuda_graphs_captured"] > 0
    [answer] = _answers(plan, [{"x": x}])
    np.testing.assert_allclose(answer["y"], (x @ x).reshape(5, 9), 1e-4, 1e-5)


def _product(tmp_path: Path) -> tuple[Model, Any]:
    weights = np.random.default_rng(1).normal(size=(SIDE, SIDE)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", SIDE]) for n in "xy")
    made = helper.make_graph([node], "g", [x], [y], [onnx.numpy_helper.from_array(weights, "w")])
    path = tmp_path / "product.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=8), path)
    return Model(path, "product", *PORTS), weights


def _off(found: Any, x: Any, weights: Any) -> float:
    want = x.astype(np.float64) @ weights.astype(np.float64)
    return float((np.abs(found - want) / (1 + np.abs(want))).max())


def _normal() -> Any:
    return np.random.default_rng(2).normal(size=(64, SIDE)).astype(np.float32)


def test_tf32_is_off_unless_it_is_asked_for(
    build: Build, here_target: Target, tmp_path: Path
) -> None:
    """A product of fp32 matrices against float64: exact to fp32's rounding, or visibly not."""
    (model, weights), x = _product(tmp_path), _normal()
    requests = [Request("g", 1.0, {"x": x})]
    ampere = float(here_target.compute_capability or 0) >= 8
    for tf32 in (False, True)[: 1 + ampere]:
        plan = build(model, {"tf32": tf32, "cuda_graph": True}, requests)
        off = _off(_answers(plan, [{"x": x}])[0]["y"], x, weights)
        assert off < EXACT if not tf32 else off > TF32, off


def test_inductor_is_right_on_the_gpu(here_target: Target, tmp_path: Path) -> None:
    """A package with a CUDA graph and without, and with TF32: device, exactness, the same answer."""
    source = tmp_path / "product.py"
    source.write_text(PRODUCT)
    x = _normal()
    requests = [Request("g", 1.0, {"x": x}), Request("one", 1.0, {"x": x[:1]})]
    model = Model(tmp_path / "none.onnx", "product", *PORTS)
    found = {}
    for name in ("plain", "cuda_graph", "tf32"):
        asked = {} if name == "plain" else {"cuda_graph": True, name: True}
        out = tmp_path / name
        out.mkdir()
        options = {"threads": 2, "workload": str(source), **asked}
        plan = inductor.build(model, here_target, options, requests, out)
        assert plan.facts["device"] == "cuda"
        found[name] = _answers(plan, [r.inputs for r in requests])[0]["y"]
    weights = _weights()
    assert _off(found["plain"], x, weights) < EXACT
    np.testing.assert_allclose(found["cuda_graph"], found["plain"], 1e-6, 1e-5)
    if float(here_target.compute_capability or 0) >= 8:
        assert _off(found["tf32"], x, weights) > TF32


def _weights() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.randn(SIDE, SIDE).numpy()
