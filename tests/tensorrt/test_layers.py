"""TensorRT's layer information, read. The texts are written by hand in the forms that these tell of:

- TensorRT 10.16 documentation, "Engine Inspector": names alone, and a detailed convolution;
- TensorRT 11.3 documentation, "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x";
- github.com/NVIDIA/TensorRT/issues/4020 (trtexec --exportLayerInfo of 10.1: Reformat, Location,
  StreamId, Metadata with separators), /issues/4048 (names alone) and /issues/3143 (DLA's copies);
- trt-engine-explorer, trex/activations.py: every spelling of a format and of a type.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from accel import placement
from accel.engines import _tensorrt_layers as layers
from accel.engines._asked import Asked
from accel.errors import CandidateBroken

TACTIC = "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32"
INT8 = "Thirty-two wide channel vectorized row major Int8 format"


def _tensor(name: str, told: str, location: str = "Device") -> dict[str, Any]:
    return {"Name": name, "Location": location, "Dimensions": [1, 64], "Format/Datatype": told}


def _layer(name: str, kind: str, given: str, made: str = "", **more: Any) -> dict[str, Any]:
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [_tensor("i", given)],
        "Outputs": [_tensor("o", made or given)],
        "StreamId": 0,
        "Metadata": "",
        **more,
    }


def _read(*found: Any, **words: Any) -> Any:
    text = json.dumps({"Layers": list(found), "Bindings": ["x", "y"]})
    return layers.placement(text, **words)


DETAILED = (
    _layer("Reformatting CopyNode for Input Tensor 0 to c0", "Reformat", "Row major linear FP32", INT8),
    _layer(
        "c0 + r0", "CaskConvolution", INT8, TacticName=f"{TACTIC}_tilesize32x64x64_stage6",
        Metadata="[ONNX Layer: c0]\x1e[ONNX Layer: r0]",
    ),
    _layer(
        "c1 + r1", "CaskConvolution", INT8, TacticName=f"{TACTIC}_tilesize96x64x64_stage3",
        Metadata="[ONNX Layer: c1]\x1e[ONNX Layer: r1]",
    ),
    _layer("__myl_MaxSubExp_myl0_1", "kgen", "Half", Metadata="[ONNX Layer: softmax | f (n)]"),
    _layer("mm_myl0_2", "gemm", "Half", "Float", Metadata="[ONNX Layer: mm]", TacticName="sm80_x"),
    _layer("nms", "PluginV3", "Float", PluginType="accel_nms", Metadata="[ONNX Layer: nms]"),
    _layer("reshape", "NoOp", "Half"),
)  # fmt: skip


def test_detailed_layers_are_told_with_type_kernel_and_precision() -> None:
    """Two convolutions whose kernels differ in tiles are one row; what is no work is left out."""
    found = _read(*DETAILED)
    assert {(p.operator, p.count, p.device, p.by, p.dtype) for p in found.placed} == {
        ("CaskConvolution", 2, "GPU", TACTIC, "int8"),
        ("Reformat", 1, "GPU", "TensorRT", "float32"),
        ("kgen", 1, "GPU", "Myelin", "float16"),
        ("gemm", 1, "GPU", "Myelin", "float16"),
        ("PluginV3", 1, "GPU", "plugin accel_nms", "float32"),
    }
    numbers = placement.metrics(found)
    assert (numbers["coverage.GPU"], numbers["reformats"], numbers["copies"]) == (1.0, 1, 0)
    convolutions = next(p for p in found.placed if p.operator == "CaskConvolution")
    assert convolutions.nodes == ("c0", "c1")


def test_what_the_graph_asked_is_held_against_it() -> None:
    """The nodes that a layer was fused of are in its metadata: the one asked int8 that runs in
    float16 is named, and one that runs as asked is not."""
    wanted = Asked({"c0": "int8", "c1": "int8", "softmax": "float16", "mm": "int8"}, {"Conv": 2})
    found = _read(*DETAILED, wanted=wanted)
    assert [(p.operator, p.planned_dtype, p.nodes) for p in placement.slipped(found)] == [
        ("gemm", "int8", ("mm",))
    ]


@pytest.mark.parametrize(
    ("told", "dtype"),
    [
        ("Row major linear FP16 format", "float16"),
        ("Channel major FP32 format where channel % 4 == 0", "float32"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("Row major INT8 format where column stride % 64 == 0", "int8"),
        ("Channel major BFloat16 format where channel % 8 == 0", "bfloat16"),
        ("Row major linear FP8 format", "float8"),
        ("Row major linear Int64 format", "int64"),
        ("Row major linear UInt8 format", "uint8"),
        ("Row major linear BOOL", "bool"),
        ("Half", "float16"),
        ("BFloat16", "bfloat16"),
        ("Float", "float32"),
        ("N/A due to dynamic shapes", ""),
        ("Unknown format", ""),
    ],
)
def test_every_spelling_of_a_type(told: str, dtype: str) -> None:
    """Long descriptions, short names, and nothing where nothing is told."""
    assert _read(_layer("a", "CaskConvolution", told)).placed[0].dtype == dtype


@pytest.mark.parametrize("key", ["DataType", "Datatype"])
def test_the_fields_of_11_are_read(key: str) -> None:
    """The type has a field of its own, and the ports are objects under another name."""
    tensor = {"Name": "i", "Dimensions": [1], "Location": "Device", key: "Half"}
    tensor |= {"Format": "Row major linear format (kLINEAR)"}
    one = {**_layer("a", "CaskConvolution", ""), "Inputs": [tensor], "Outputs": [tensor]}
    port = {"Name": "x", "IOMode": "Input", "DataType": "Float", "Location": "Device"}
    found = layers.placement(json.dumps({"Layers": [one], "I/O Tensors": [port]}))
    assert found.placed[0].dtype == "float16"


def test_a_mask_is_not_what_is_computed_in() -> None:
    """The first type that products are made in counts, before truth values and indices."""
    masked = _layer("a", "kgen", "Bool")
    masked["Inputs"].append(_tensor("x", "Half"))
    assert _read(masked).placed[0].dtype == "float16"
    assert _read(_layer("b", "Gather", "Int32")).placed[0].dtype == "int32"


def test_names_alone_tell_neither_type_nor_precision() -> None:
    """What LAYER_NAMES_ONLY gives: layers are counted, reformats known by name, and it is said."""
    found = _read("c0 + r0", "Reformatting CopyNode for Input Tensor 0 to c1", "c1 + r1")
    assert {(p.operator, p.count, p.dtype) for p in found.placed} == {
        ("layer", 2, ""),
        ("Reformat", 1, ""),
    }
    assert "names alone" in found.source
    assert placement.census(found) == {"unknown": 3}


def test_layers_that_left_the_dla_fell() -> None:
    """Coverage of what was asked for, the layer on the GPU by its name, copies to and from DLA."""
    found = _read(
        _layer("images to nvm", "Reformat", "Half"),
        _layer("{ForeignNode[Conv_0...Concat_198]}", "DLA", "Half"),
        _layer("head from nvm", "Reformat", "Half"),
        _layer("images copy finish", "Reformat", "Half"),
        _layer("mm", "gemm", "Half", Metadata="[ONNX Layer: mm]"),
        planned_device="DLA",
    )
    assert placement.coverage(found) == {"DLA": 0.5, "GPU": 0.5}
    assert [p.nodes for p in placement.fallen(found)] == [("mm",)]
    assert {(c.source, c.target, c.count) for c in found.copied} == {
        ("GPU", "DLA", 1),
        ("DLA", "GPU", 1),
    }


def test_a_region_whose_compiler_is_not_told_is_not_taken_for_the_dla() -> None:
    """By name alone it may be Myelin's, on the GPU: unknown, so that a gate on DLA fails."""
    region = "{ForeignNode[Conv_0...Concat_198]}"
    assert _read(region, planned_device="DLA").placed[0].device == "unknown"
    assert _read(region).placed[0].device == "GPU"
    myelin = _read(_layer(region, "Myelin", "Half"), planned_device="DLA")
    assert myelin.placed[0].device == "GPU"


def test_shapes_are_worked_out_on_the_host() -> None:
    """A layer whose outputs lie there runs on the CPU, as it has to; its copies are counted."""
    shape = _layer("s", "Shape", "Int64")
    shape["Outputs"] = [_tensor("o", "Int64", "Host")]
    crossing = _layer("s copy", "ShapeHostToDeviceCopy", "Int64")
    found = _read(shape, crossing, _layer("c", "CaskConvolution", "Half"))
    assert {(p.operator, p.device) for p in found.placed} == {
        ("Shape", "CPU"),
        ("CaskConvolution", "GPU"),
    }
    assert not placement.fallen(found)
    assert placement.copies(found) == 1


def test_of_several_profiles_the_first_is_told() -> None:
    """Every further one repeats the layers under names of its own."""
    names = ("c0", "c0 [profile 1]", "c0 [profile 2]")
    found = _read(*(_layer(n, "CaskConvolution", "Half") for n in names))
    assert placement.metrics(found)["nodes"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("c0 + r0\nc1", "not JSON"),
        ("[1, 2]", "no list Layers, only list"),
        ('{"Bindings": []}', "no list Layers"),
        ('{"Layers": {}}', "no list Layers"),
        ('{"Layers": []}', "DETAILED"),
        ('{"Layers": [3]}', "no Name"),
        ('{"Layers": [{"LayerType": "kgen"}]}', "no Name"),
        ('{"Layers": [{"Name": "a", "Inputs": ["x"]}]}', "no list of tensors"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_another_text_is_refused(text: str, said: str) -> None:
    """In our words: what is wrong with it, and what was seen."""
    with pytest.raises(CandidateBroken, match=said):
        layers.placement(text)


def test_a_separator_that_is_not_escaped_is_read() -> None:
    """Metadata parts its entries by a control character, which JSON wants escaped."""
    text = json.dumps({"Layers": [DETAILED[1]]}).replace("\\u001e", "\x1e")
    assert layers.placement(text).placed[0].nodes == ("c0",)
