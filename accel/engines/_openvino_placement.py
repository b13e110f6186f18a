"""Where OpenVINO's CPU plugin runs each layer, by which kernel and in which precision: what the
compiled model's own graph tells. (OpenVINO, "Runtime Model": CompiledModel.get_runtime_model.)
"""

from __future__ import annotations

from typing import Any

from accel import placement
from accel.engines._asked import FLOATS, Asked, slip
from accel.values import Placed, Placement

DEVICE = "CPU"
IDLE = {"Const", "Input", "Output", "Parameter", "Result"}  # nothing is computed there
CONVERTING = {"Convert", "FakeQuantize", "Reorder", "ShapeOf"}  # no precision is asked of these
PRODUCTS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
SPELT = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "i32": "int32"}
SPELT |= {"i64": "int64", "u8": "uint8", "i8": "int8", "boolean": "bool"}


def read(compiled: Any, wanted: Asked, hint: str, which: str) -> Placement:
    """The placement of a compiled model. `wanted`: what the graph asks for; `hint`: the precision
    that the plan asks for where the graph says float32; `which`: the shape that was compiled."""
    told = [_told(node) for node in _running(compiled.get_runtime_model())]
    rows = [_row(layer, wanted, SPELT.get(hint, hint)) for layer in told]
    return Placement(placement.gathered(rows), source=f"OpenVINO's runtime model, {which}")


def _running(model: Any) -> list[Any]:
    """The layers that an inference runs: not those of constants alone, which compiling ran."""
    fixed: set[str] = set()
    found = []
    for node in model.get_ordered_ops():
        kind = _text(node.get_rt_info()["layerType"])
        given = [port.get_source_output().get_node().get_friendly_name() for port in node.inputs()]
        if kind == "Const" or (given and fixed.issuperset(given)):
            fixed.add(node.get_friendly_name())
        elif kind not in IDLE:
            found.append(node)
    return found


def _told(node: Any) -> dict[str, str]:
    info = {key: _text(value) for key, value in node.get_rt_info().items()}
    given = next((port.get_element_type().get_type_name() for port in node.inputs()), "")
    return {"name": node.get_friendly_name(), "given": given, **info}


def _text(value: Any) -> str:
    return str(value.astype(str)) if hasattr(value, "astype") else str(value)


def _row(told: dict[str, str], wanted: Asked, hint: str) -> Placed:
    """A layer asks for what the first of its nodes with a wish asks for, int8 before all others."""
    nodes = [n for n in map(wanted.name, told["originalLayersNames"].split(",")) if n]
    wishes = {wanted.dtypes[n]: n for n in reversed(nodes) if wanted.dtypes[n]}
    asks = next((d for d in ("int8", *reversed(wishes)) if d in wishes), "")
    name = wishes.get(asks, told["name"])
    if asks in ("", "float32"):
        asks = hint
    kind, runs = told["layerType"], SPELT.get(told["runtimePrecision"], told["runtimePrecision"])
    given = SPELT.get(told["given"], told["given"])
    if kind == "FullyConnected" and given in FLOATS and runs not in FLOATS:
        runs = given  # only its weights are integers; the plan's settings say whether it rounds what comes
    kernel = SPELT.get(told["primitiveType"].rpartition("_")[2].lower(), "")
    if kind in PRODUCTS and kernel in FLOATS and runs not in FLOATS:
        runs = kernel  # it takes integers and computes in this: a convolution of 3 channels on AMX
    if runs == "uint8" and wanted.int8 and not (nodes and not wishes):
        runs = "int8"  # with an offset; else it is a truth value
    slipped = "" if kind in CONVERTING else slip(asks, runs)
    return Placed(kind, 1, DEVICE, told["primitiveType"], runs, DEVICE, slipped, (name,))
