"""Where TensorRT runs each layer and in which precision: the text of IEngineInspector, read.

Its JSON as told in the TensorRT documentation, "Engine Inspector" (10.16) and "Migrating
IEngineInspector Usage from TensorRT 10.x to 11.x" (11.3: "Bindings" became "I/O Tensors", and
"Format/Datatype" is two fields), and as NVIDIA's Engine Explorer reads it (trt-engine-explorer,
trex/activations.py and layer.py). An engine tells all of it only when it was built with
ProfilingVerbosity.DETAILED; by default it tells names alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from accel import placement as ledger
from accel.engines._asked import FLOATS, Asked, slip
from accel.errors import CandidateBroken
from accel.plain import shown
from accel.values import Copied, Placed, Placement

DETAILED = "Build with config.profiling_verbosity = ProfilingVerbosity.DETAILED"
IDLE = {"NoOp", "Constant"}  # nothing runs (trex/engine_plan.py leaves them out as well)
SPELT = {"float": "float32", "fp32": "float32", "half": "float16", "fp16": "float16"}
SPELT |= {"bf16": "bfloat16", "fp8": "float8", "fp4": "float4", "double": "float64"}
SPELT |= {k: k for k in ("bfloat16", "int4", "int8", "uint8", "int32", "int64", "bool")}
COMPUTED = FLOATS | {"int8", "float8", "float4"}
ONNX_NODE = re.compile(r"\[ONNX Layer: ([^|\]]+?)\s*(?:\||\])")  # onnx-tensorrt, importerUtils.cpp
PROFILE = re.compile(r" \[profile (\d+)\]$")  # every profile but the first has layers of its own
FOREIGN = "{ForeignNode["  # a region given to another compiler: DLA's, or Myelin on the GPU
TACTIC_SIZES = re.compile(r"_tilesize.*$")
# between the GPU's memory and DLA's (TensorRT issue 3143), and shapes to and from the host (names
# that exported layer information has; they are not documented)
CROSSINGS = {
    " to nvm": ("GPU", "DLA"),
    " from nvm": ("DLA", "GPU"),
    "shapehosttodevice": ("CPU", "GPU"),
    "devicetoshapehost": ("GPU", "CPU"),
}
MARK = " copy finish"  # the end of such a copy


def placement(text: str, planned_device: str = "GPU", wanted: Asked | None = None) -> Placement:
    """The placement of an engine from what its inspector wrote; of several optimization profiles
    the first. `wanted`: what the graph asks for.

    Raises CandidateBroken for text that is not an inspector's, or tells of no layer."""
    layers = [layer for layer in _layers(text) if not PROFILE.search(layer["Name"])]
    crossed = Counter(c for layer in layers if (c := _crossing(layer)))
    rows = [_row(layer, planned_device, wanted) for layer in layers if _computes(layer)]
    copied = tuple(Copied(*way, count) for way, count in crossed.items())
    detail = "" if any("LayerType" in layer for layer in layers) else ", which tells names alone"
    return Placement(ledger.gathered(rows), copied, f"TensorRT's engine inspector{detail}")


def _layers(text: str) -> list[Mapping[str, Any]]:
    try:
        data = json.loads(text, strict=False)  # it parts entries by a control character
    except (ValueError, RecursionError) as error:
        raise CandidateBroken(f"TensorRT's layer information is not JSON: {error}") from None
    found = data.get("Layers") if isinstance(data, dict) else None
    if not isinstance(found, list):
        seen = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise CandidateBroken(f"TensorRT's layer information has no list Layers, only {seen}")
    if not found:
        raise CandidateBroken(f"TensorRT tells of no layer. {DETAILED}")
    return [_layer(one) for one in found]


def _layer(one: Any) -> Mapping[str, Any]:
    layer = {"Name": one} if isinstance(one, str) else one
    if not isinstance(layer, dict) or not isinstance(layer.get("Name"), str):
        raise CandidateBroken(f"a layer of TensorRT's has no Name: {str(one)[:200]}")
    for key in ("Inputs", "Outputs"):
        tensors = layer.get(key, [])
        if not isinstance(tensors, list) or not all(isinstance(t, dict) for t in tensors):
            seen = str(tensors)[:200]
            raise CandidateBroken(
                f"{key} of {shown(layer['Name'], keep='')} is no list of tensors: {seen}"
            )
    return layer


def _kind(layer: Mapping[str, Any]) -> str:
    reformat = layer["Name"].startswith("Reformatting CopyNode")
    return str(layer.get("LayerType") or ("Reformat" if reformat else "layer"))


def _crossing(layer: Mapping[str, Any]) -> tuple[str, str] | None:
    name, kind = layer["Name"], _kind(layer).lower()
    ways = (w for part, w in CROSSINGS.items() if name.endswith(part) or part in kind)
    return next(ways, None)


def _computes(layer: Mapping[str, Any]) -> bool:
    ends = layer["Name"].endswith(MARK)
    return not ends and _crossing(layer) is None and _kind(layer) not in IDLE


def _row(layer: Mapping[str, Any], planned: str, wanted: Asked | None) -> Placed:
    kind, runs = _kind(layer), _dtype(layer)
    name, asks = _asks(layer, wanted)
    device = _device(layer, planned)
    if kind in ledger.REFORMATS or device == "CPU":
        planned = ""  # layouts and the arithmetic of shapes are where they have to be
    slipped = "" if kind in ledger.REFORMATS else slip(asks, runs)
    return Placed(kind, 1, device, _by(layer, device), runs, planned, slipped, (name,))


def _device(layer: Mapping[str, Any], planned: str) -> str:
    """Of a region whose type is not told, no one knows the compiler where DLA was asked for."""
    where = {str(t.get("Location", "")) for t in layer.get("Outputs", [])}
    kind = _kind(layer)
    if "dla" in kind.lower():
        return "DLA"
    if layer["Name"].startswith(FOREIGN) and kind == "layer" and planned == "DLA":
        return "unknown"
    return "CPU" if where == {"Host"} else "GPU"


def _dtype(layer: Mapping[str, Any]) -> str:
    """The first type that is computed in, of inputs before outputs; else the first of any."""
    tensors = [*layer.get("Inputs", []), *layer.get("Outputs", [])]
    found = [kind for tensor in tensors if (kind := _type(tensor))]
    return next((k for k in found if k in COMPUTED), (*found, "")[0])


def _type(tensor: Mapping[str, Any]) -> str:
    """Of "Half", of "Row major linear FP16 format", or of the field that 11.x has for it alone."""
    keys = ("DataType", "Datatype", "Format/Datatype", "Format/DataType")
    told = next((str(tensor[k]) for k in keys if k in tensor), "")
    words = re.findall(r"[a-z]+\d*", told.lower())
    return next((SPELT[w] for w in words if w in SPELT), "")


def _by(layer: Mapping[str, Any], device: str) -> str:
    """What runs a layer; kernels that differ in the size of their tiles alone count as one."""
    kind = _kind(layer)
    if "plugin" in kind.lower():
        return f"plugin {layer.get('PluginType') or layer['Name']}"
    if device != "GPU" or kind in ("kgen", "gemm", "Myelin"):
        return "Myelin" if device == "GPU" else device
    return TACTIC_SIZES.sub("", str(layer.get("TacticName") or "TensorRT"))


def _asks(layer: Mapping[str, Any], wanted: Asked | None) -> tuple[str, str]:
    """The node of the graph with the strictest wish among those in the layer, and what it asks."""
    nodes = ONNX_NODE.findall(str(layer.get("Metadata") or ""))
    if wanted is None or not nodes:
        return (nodes or [layer["Name"][:120]])[0], ""
    wishes = {wanted.dtypes.get(wanted.name(n), ""): n for n in reversed(nodes)}
    asks = next((d for d in ("int8", *reversed(wishes)) if wishes.get(d) and d), "")
    return wishes.get(asks, nodes[0]), asks
