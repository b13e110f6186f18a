"""OpenVINO's placement: int8, bf16 and float kernels as they were compiled on this machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from accel import catalog, placement, testing
from accel import target as targets
from accel.engines import _openvino_placement
from accel.engines._asked import Asked
from accel.recipes import int8_static
from accel.values import Feed, Model, Options, Placement, Request

pytest.importorskip("openvino", reason="openvino is absent; instead: test_ort_placement.py")
CPU = dataclasses.replace(targets.load("cpu-local"), threads=1)
F32 = {"threads": 1, "precision": "f32"}


def _placed(model: Model, feeds: list[Feed], out: Path, options: Options) -> Placement:
    out.mkdir()
    requests = [Request("all", 1.0, feed) for feed in feeds]
    plan = catalog.load("engines", "openvino").build(model, CPU, options, requests, out)
    found: Placement = plan.placement
    return found


def _counts(found: Placement, dtype: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in found.placed:
        counts[row.operator] = counts.get(row.operator, 0) + row.count * (row.dtype == dtype)
    return counts


def test_float32_is_float32(tmp_path: Path) -> None:
    """Two convolutions and a product, each by a named kernel; nothing slips where f32 is asked."""
    model = testing.convnet(tmp_path / "m.onnx")
    found = _placed(model, [testing.request(model).inputs], tmp_path / "plan", F32)
    float32 = _counts(found, "float32")
    assert (float32["Convolution"], float32["FullyConnected"]) == (2, 1)
    assert all(p.by for p in found.placed)
    assert placement.coverage(found) == {"CPU": 1.0}
    assert placement.metrics(found)["nodes_not_as_planned"] == 0
    assert not {"Const", "Transpose"} & {p.operator for p in found.placed}  # weights: compiled in


def test_int8_is_told_with_its_kernels(tmp_path: Path) -> None:
    """Every convolution and the product of a graph that NNCF quantized, its activations symmetric: with zero
    points, OpenVINO 2026.4 computes a convolution of 3 channels in float32 where there is AMX."""
    pytest.importorskip("nncf", reason="nncf is absent; instead: tests/engines/test_asked.py")
    module = catalog.load("engines", "openvino")
    if module.recipes(CPU)["int8_static"] is not None:
        pytest.skip("no int8 dot product here; instead: test_float32_is_float32")
    model = testing.convnet(tmp_path / "m.onnx")
    feeds = [testing.request(model, batch=n).inputs for n in (1, 2, 3)]
    out, style = tmp_path / "int8", module.style(CPU)
    out.mkdir()
    options = {"tool": "nncf", "activations": "symmetric"}
    assert options in int8_static.variants(style)
    made = int8_static.apply(model, feeds, style, options, out).model
    found = _placed(made, feeds, tmp_path / "plan", F32)
    int8 = _counts(found, "int8")
    assert (int8["Convolution"], int8["FullyConnected"]) == (2, 1)
    kernels = {p.by for p in found.placed if p.operator == "Convolution"}
    assert all(name.lower().endswith("i8") for name in kernels), kernels
    assert not placement.slipped(found)


def test_what_the_bf16_hint_did_not_reach_is_told(tmp_path: Path) -> None:
    """Products run in bfloat16 as planned; a layer that stayed float32 is one that slipped."""
    if catalog.load("engines", "openvino").recipes(CPU)["bf16"] is not None:
        pytest.skip("no bf16 kernels on this processor; instead: test_float32_is_float32")
    model = testing.attention(tmp_path / "m.onnx")
    options = {"threads": 1, "precision": "bf16"}
    found = _placed(model, [testing.tokens().inputs], tmp_path / "plan", options)
    assert _counts(found, "bfloat16")["FullyConnected"] == 3
    slipped = placement.slipped(found)
    assert {"Gather"} <= {p.operator for p in slipped}
    assert {(p.dtype, p.planned_dtype) for p in slipped} == {("float32", "bfloat16")}


def test_a_float16_graph_in_float32_is_told(tmp_path: Path) -> None:
    """The graph asks for float16, and the plan's f32 has it in float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    from accel import graph

    path = tmp_path / "half.onnx"
    onnx.save(convert_float_to_float16(onnx.load(testing.convnet(tmp_path / "m.onnx").path)), path)
    feed: Feed = {"x": np.zeros((1, 3, 8, 8), np.float16)}
    found = _placed(graph.describe(path), [feed], tmp_path / "plan", F32)
    slipped = {p.operator: p for p in placement.slipped(found)}
    assert slipped["Convolution"].planned_dtype == "float16"
    assert set(slipped["Convolution"].nodes) == {"conv_p0", "conv_p1"}


def test_of_several_static_shapes_the_first_is_told(tmp_path: Path) -> None:
    """As many layers as the same shape compiled alone, and the source says which."""
    model = testing.attention(tmp_path / "m.onnx")
    options = {**F32, "buckets": 4, "padding": {"ids": 0, "mask": 0}}
    feeds = [testing.tokens(length=n).inputs for n in (4, 9)]
    several = _placed(model, feeds, tmp_path / "several", options)
    assert "the first of 2 static shapes" in several.source
    alone = _placed(model, feeds[:1], tmp_path / "alone", options)
    assert "first" not in alone.source
    assert placement.metrics(several)["nodes"] == placement.metrics(alone)["nodes"]
    assert "If" not in {p.operator for p in several.placed}


def test_a_kernel_that_computes_in_float_is_told_as_one() -> None:
    """Whatever precision the layer is said to have: it slipped from int8."""
    told = {"name": "conv", "given": "u8", "layerType": "Convolution", "runtimePrecision": "u8"}
    told |= {"originalLayersNames": "conv", "primitiveType": "brgconv_avx512_f32"}
    wanted = Asked({"conv": "int8"}, {"Conv": 1})
    row = _openvino_placement._row(told, wanted, "f32")
    assert (row.dtype, row.planned_dtype) == ("float32", "int8")
    row = _openvino_placement._row(
        {**told, "primitiveType": "brgconv_avx512_amx_I8"}, wanted, "f32"
    )
    assert (row.dtype, row.planned_dtype) == ("int8", "")
