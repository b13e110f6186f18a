"""ONNX Runtime's placement against the graph that it saves after optimizing it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from accel import catalog, graph, placement, testing
from accel import target as targets
from accel.engines import _ort_placement
from accel.engines._asked import asked
from accel.errors import CandidateBroken
from accel.recipes import int8_static
from accel.values import Feed, Model, Placement, Request

CPU = dataclasses.replace(targets.load("cpu-local"), threads=1)


def _placed(model: Model, feed: Feed, out: Path, engine: str = "onnxruntime_cpu") -> Any:
    out.mkdir()
    module = catalog.load("engines", engine)
    return module.build(model, CPU, {"threads": 1}, [Request("all", 1.0, feed)], out).placement


def _saved(model: Model, level: Any, out: Path) -> Counter[str]:
    """Operators of the graph that ONNX Runtime says it runs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(out).graph.node)


def _counted(found: Placement) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in found.placed:
        counts[row.operator] += row.count
    return counts


def _quantized(folder: Path, style: str) -> tuple[Model, Feed]:
    """The convnet in int8 as the style's engine wants it, and a feed."""
    model = testing.convnet(folder / "convnet.onnx")
    feeds = [testing.request(model, batch=n).inputs for n in (1, 2, 3)]
    wanted = catalog.load("engines", style).style(CPU)
    out = folder / "int8"
    out.mkdir()
    options = int8_static.variants(wanted)[0]
    return int8_static.apply(model, feeds, wanted, options, out).model, feeds[0]


LEVELS = {
    "onnxruntime_cpu": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "reference": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


@pytest.mark.parametrize("engine", LEVELS)
@pytest.mark.parametrize("name", ["convnet", "attention"])
def test_it_counts_what_the_optimized_graph_holds(name: str, engine: str, tmp_path: Path) -> None:
    """Operator by operator, fused and inserted ones with them; all on the CPU as planned."""
    model = getattr(testing, name)(tmp_path / "m.onnx")
    feed = testing.request(model).inputs if name == "convnet" else testing.tokens().inputs
    found = _placed(model, feed, tmp_path / "plan", engine)
    assert _counted(found) == _saved(model, LEVELS[engine], tmp_path / "saved.onnx")
    assert placement.coverage(found) == {"CPU": 1.0}
    assert placement.metrics(found)["nodes_not_as_planned"] == 0
    assert not found.copied


def test_int8_is_told_where_it_runs(tmp_path: Path) -> None:
    """Both convolutions and the Gemm of a graph quantized in ONNX Runtime's own way."""
    model, feed = _quantized(tmp_path, "onnxruntime_cpu")
    found = _placed(model, feed, tmp_path / "plan")
    int8 = {p.operator: p.count for p in found.placed if p.dtype == "int8"}
    assert {"QLinearConv": 2, "QGemm": 1}.items() <= int8.items()
    assert not placement.slipped(found)


def test_a_product_that_stayed_float_is_told(tmp_path: Path) -> None:
    """NNCF leaves the output of the last layer float, and ONNX Runtime then computes that layer
    in float32: asked int8, by its name."""
    pytest.importorskip("nncf", reason="nncf is not installed; instead: the test with one Conv")
    model, feed = _quantized(tmp_path, "openvino")
    found = _placed(model, feed, tmp_path / "plan")
    assert [(p.operator, p.dtype, p.planned_dtype, p.nodes) for p in placement.slipped(found)] == [
        ("Gemm", "float32", "int8", ("gemm_y",))
    ]
    assert {p.operator: p.count for p in found.placed}["QLinearConv"] == 2


@pytest.mark.parametrize("named", [True, False])
def test_a_convolution_that_does_not_fuse_is_told(named: bool, tmp_path: Path) -> None:
    """One whose output no QuantizeLinear reads: float32, also where nodes have no names."""
    model, feed = _quantized(tmp_path, "onnxruntime_cpu")
    proto = onnx.load(model.path)
    last = next(n for n in reversed(proto.graph.node) if n.op_type == "Conv")
    reader = next(n for n in proto.graph.node if n.input[0] == last.output[0])
    opened = next(n for n in proto.graph.node if reader.output[0] in n.input)
    for node in proto.graph.node:  # what read the quantized output reads the float one
        for i, name in enumerate(node.input):
            if name == opened.output[0]:
                node.input[i] = last.output[0]
    proto.graph.node.remove(reader)
    proto.graph.node.remove(opened)
    for node in () if named else proto.graph.node:
        node.name = ""
    onnx.save(proto, model.path)
    found = _placed(graph.describe(model.path), feed, tmp_path / "plan")
    slipped = placement.slipped(found)
    assert ("Conv", 1, "int8") in [(p.operator, p.count, p.planned_dtype) for p in slipped]
    assert {p.operator: p.count for p in found.placed}["QLinearConv"] == 1


def test_float16_that_a_cpu_computes_in_float32_is_told(tmp_path: Path) -> None:
    """Every product of a float16 graph; the casts that were put in are no slips."""
    path = tmp_path / "half.onnx"
    onnx.save(convert_float_to_float16(onnx.load(testing.convnet(tmp_path / "m.onnx").path)), path)
    model = graph.describe(path)
    found = _placed(model, {"x": np.zeros((1, 3, 8, 8), np.float16)}, tmp_path / "plan")
    slipped = {p.operator: p.count for p in placement.slipped(found)}
    assert {"Conv": 2, "Gemm": 1}.items() <= slipped.items()
    assert all(p.planned_dtype == "float16" for p in placement.slipped(found))
    assert "Cast" not in slipped


def test_without_a_request_nothing_is_told(tmp_path: Path) -> None:
    """There is nothing to run, and nothing is guessed."""
    model = testing.mlp(tmp_path / "m.onnx")
    out = tmp_path / "plan"
    out.mkdir()
    plan = catalog.load("engines", "onnxruntime_cpu").build(model, CPU, {"threads": 1}, [], out)
    assert plan.placement is None


def test_only_the_copy_is_left_behind(tmp_path: Path) -> None:
    """The profile lies in a scratch folder: the plan is the graph alone."""
    model = testing.mlp(tmp_path / "m.onnx")
    _placed(model, testing.request(model).inputs, tmp_path / "plan")
    assert [p.name for p in (tmp_path / "plan").iterdir()] == ["model.onnx"]


def test_a_feed_that_does_not_run_is_said(tmp_path: Path) -> None:
    """In our words, not in ONNX Runtime's type. The plan is built without a placement: who runs it
    is told the reason then."""
    model = testing.mlp(tmp_path / "m.onnx")
    feed: Feed = {"x": np.zeros((1, 3), np.float32)}
    options = onnxruntime.SessionOptions()
    _ort_placement.watch(options, tmp_path)
    session = onnxruntime.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])
    with pytest.raises(CandidateBroken, match="ONNX Runtime could not run"):
        _ort_placement.read(session, feed, asked(onnx.load(model.path)))
    assert _placed(model, feed, tmp_path / "plan") is None


class FakeSession:
    """A fake of a session on a GPU that this machine lacks: it tells what it is given."""

    def __init__(self, folder: Path, events: list[dict[str, Any]], assigned: list[Any]) -> None:
        self.path, self.events, self.assigned = folder / "profile.json", events, assigned

    def run(self, names: Any, feed: Any) -> None:
        """Nothing."""

    def end_profiling(self) -> str:
        """The events, in a file."""
        self.path.write_text(json.dumps(self.events))
        return str(self.path)

    def get_provider_graph_assignment_info(self) -> list[Any]:
        """What it was given."""
        return self.assigned


class FakePart:
    """A fake of onnxruntime's subgraph: a provider and its nodes."""

    def __init__(self, provider: str, *nodes: tuple[str, str]) -> None:
        self.ep_name = provider
        self._nodes = [SimpleNamespace(name=n, op_type=o, domain="") for n, o in nodes]

    def get_nodes(self) -> list[Any]:
        """The nodes."""
        return self._nodes


def _event(index: int, name: str, operator: str, provider: str, kind: str = "float") -> Any:
    types = {"input_type_shape": [{kind: [1]}], "output_type_shape": [{kind: [1]}]}
    told = {"op_name": operator, "provider": provider, "node_index": str(index), **types}
    return {"cat": "Node", "name": f"{name}_kernel_time", "args": told}


def test_fallen_nodes_and_copies_are_told(tmp_path: Path) -> None:
    """A node on the CPU of a plan for the GPU, the copies around it, one that a branch not taken
    holds, and a loop's body once."""
    gpu, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    events = [
        _event(0, "a", "Relu", gpu, "float16"),
        _event(1, "Memcpy", "MemcpyToHost", gpu),
        _event(2, "n", "NonZero", cpu),
        _event(3, "Memcpy_token_1", "MemcpyFromHost", gpu),
        _event(4, "body", "Add", gpu),
        _event(4, "body", "Add", gpu),
        {"cat": "Session", "name": "model_run", "args": {}},
    ]
    assigned = [FakePart(gpu, ("a", "Relu")), FakePart(cpu, ("n", "NonZero"), ("else", "TopK"))]
    wanted = asked(helper.make_model(helper.make_graph([], "g", [], [])))
    session = FakeSession(tmp_path, events, assigned)
    found = _ort_placement.read(session, {}, wanted, planned_device="GPU")
    assert {(p.operator, p.count, p.device, p.dtype) for p in found.placed} == {
        ("Relu", 1, "GPU", "float16"),
        ("Add", 1, "GPU", "float32"),
        ("NonZero", 1, "CPU", "float32"),
        ("TopK", 1, "CPU", ""),
    }
    assert {p.nodes for p in placement.fallen(found)} == {("n",), ("else",)}
    assert {(c.source, c.target, c.count) for c in found.copied} == {
        ("GPU", "CPU", 1),
        ("CPU", "GPU", 1),
    }
    assert all("NonZero" in c.causes for c in found.copied)
    assert placement.coverage(found)["GPU"] == 0.5
