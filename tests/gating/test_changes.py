"""What changed between two subjects, on real graphs: each line from a change that was made."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx

from accel import catalog, graph, testing
from accel import target as targets
from accel.evidence import Subject
from accel.gating import changes
from accel.recipes import int8_static


def subject(path: Path, **plan: Any) -> Subject:
    model = graph.describe(path)
    made = dataclasses.replace(testing.plan(model), **plan)
    return Subject(path.stem, path, model.digest, made, (), path.stat().st_size)


def test_the_same_graph_is_said_to_be_the_same(tmp_path: Path) -> None:
    """Under another name and with another doc string; a plan that differs is told all the same."""
    testing.mlp(tmp_path / "a.onnx")
    proto = onnx.load(tmp_path / "a.onnx")
    proto.doc_string = "another"
    onnx.save(proto, tmp_path / "b.onnx")
    one, other = subject(tmp_path / "a.onnx"), subject(tmp_path / "b.onnx", options={"threads": 2})
    first, *rest = changes.lines(other, one)
    assert first.startswith("the graphs are the same (digest ")
    assert "options: threads 1 -> 2" in rest
    assert changes.lines(one, one) == (first,)


def test_a_quantized_graph_against_its_float_one(tmp_path: Path) -> None:
    """Operators, weights by dtype, Q/DQ nodes and size."""
    model = testing.convnet(tmp_path / "float.onnx")
    style = catalog.load("engines", "onnxruntime_cpu").style(targets.load("cpu-local"))
    feeds = [testing.request(model, batch=n).inputs for n in (1, 2, 3)]
    out = tmp_path / "int8"
    out.mkdir()
    made = int8_static.apply(model, feeds, style, int8_static.variants(style)[0], out).model
    told = changes.lines(subject(made.path), subject(model.path))
    counts = graph.operators(onnx.load(made.path))
    assert any(f"QuantizeLinear +{counts['QuantizeLinear']}" in line for line in told)
    nodes = counts["QuantizeLinear"] + counts["DequantizeLinear"]
    assert any(f"Q/DQ nodes 0 -> {nodes}" in line for line in told)
    assert any(line.startswith("elements of weights: ") and "int8" in line for line in told)
    assert any(line.startswith("size: ") for line in told)


def test_other_weights_of_the_same_operators_are_named(tmp_path: Path) -> None:
    """A retrained layer: the tensor's name, and no talk of operators."""
    testing.mlp(tmp_path / "a.onnx")
    proto = onnx.load(tmp_path / "a.onnx")
    proto.graph.initializer[1].raw_data = bytes(len(proto.graph.initializer[1].raw_data))
    onnx.save(proto, tmp_path / "b.onnx")
    told = changes.lines(subject(tmp_path / "b.onnx"), subject(tmp_path / "a.onnx"))
    assert told == ("same operators, other weights: w1",)


def test_ports_and_opset_that_changed(tmp_path: Path) -> None:
    """Both sides of each."""
    testing.mlp(tmp_path / "a.onnx")
    proto = onnx.load(tmp_path / "a.onnx")
    proto.opset_import[0].version = 18
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "logits"
    onnx.save(proto, tmp_path / "b.onnx")
    told = changes.lines(subject(tmp_path / "b.onnx"), subject(tmp_path / "a.onnx"))
    assert "opset: ai.onnx 17 -> 18" in told
    assert "outputs: y float32 [batch, 4] -> logits float32 [batch, 4]" in told


def test_another_engine_with_its_versions_and_facts(tmp_path: Path) -> None:
    """What was absent on one side is called none; a long fact is cut."""
    testing.mlp(tmp_path / "a.onnx")
    one = subject(tmp_path / "a.onnx", versions={"onnxruntime": "1.0"}, facts={"precision": "f32"})
    facts = {"precision": "f32", "providers": "x" * 200}
    other = subject(
        tmp_path / "a.onnx", engine="openvino", versions={"openvino": "2.0"}, facts=facts
    )
    told = changes.lines(other, one)
    assert "engine: onnxruntime_cpu -> openvino" in told
    assert "versions: onnxruntime 1.0 -> none, openvino none -> 2.0" in told
    (fact,) = (line for line in told if line.startswith("read back"))
    assert "precision" not in fact
    assert len(fact) < 120


def test_a_line_a_kind_at_most(tmp_path: Path) -> None:
    """However much differs; what is left out of a line is counted."""
    testing.mlp(tmp_path / "a.onnx")
    testing.attention(tmp_path / "b.onnx")
    proto = onnx.load(tmp_path / "b.onnx")
    proto.opset_import[0].version = 18
    onnx.save(proto, tmp_path / "b.onnx")
    many = {f"option{i}": i for i in range(20)}
    other = subject(tmp_path / "b.onnx", engine="z", options=many, versions=many, facts=many)
    told = changes.lines(other, subject(tmp_path / "a.onnx"))
    assert len(told) <= 11
    assert any("and 15 more" in line for line in told)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A plan that is missing, a graph that is, and one that an engine keeps to itself."""
    testing.mlp(tmp_path / "a.onnx")
    testing.attention(tmp_path / "b.onnx")
    one, other = subject(tmp_path / "a.onnx"), subject(tmp_path / "b.onnx")
    lost = dataclasses.replace(one, plan=None, trouble="a file differs")
    assert changes.lines(other, lost) == ("a could not be read: a file differs",)
    (tmp_path / "b.onnx").unlink()
    assert "one cannot be read" in changes.lines(other, one)[0]
    assert other.plan is not None
    model = dataclasses.replace(other.plan.model, path=tmp_path / "engine.plan")
    sealed = dataclasses.replace(other, plan=dataclasses.replace(other.plan, model=model))
    assert "is not at hand" in changes.lines(sealed, one)[0]
