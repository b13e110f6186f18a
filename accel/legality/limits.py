"""What the parser's list restricts of the operators that it supports.

Sources: the Restrictions column of docs/operators.md (10.1 GA and 10.15), dated by docs/Changelog.md and
the release notes of 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import onnx

from accel.legality import _graph, _tensorrt
from accel.values import Finding, Request, Target

ENGINES = _tensorrt.ENGINES
NEVER = (99, 0)
MOST_K = 3840
REDUCTIONS = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]
CONSTANT: Mapping[str, tuple[tuple[int, str, tuple[int, int]], ...]] = {
    # operator -> (input, its name, the version from which it may be computed)
    "CumSum": ((1, "axis", (10, 8)),),
    "OneHot": ((1, "depth", NEVER),),
    "Pad": ((3, "axes", (10, 4)),),
    "Slice": ((3, "axes", (10, 3)),),
    "Squeeze": ((1, "axes", (10, 7)),),
    "Unsqueeze": ((1, "axes", (10, 7)),),
    "STFT": ((1, "frame_step", NEVER), (2, "window", NEVER)),
    "Dropout": ((2, "training_mode", NEVER),),
    **dict.fromkeys(REDUCTIONS, ((1, "axes", NEVER),)),
}
ATTRIBUTES: Mapping[str, tuple[tuple[str, tuple[Any, ...]], ...]] = {
    # operator -> (attribute, what it may be; the first is ONNX's default)
    "Resize": (
        ("mode", ("nearest", "linear")),
        (
            "coordinate_transformation_mode",
            (
                "half_pixel",
                "pytorch_half_pixel",
                "tf_half_pixel_for_nn",
                "asymmetric",
                "align_corners",
            ),
        ),
        (
            "nearest_mode",
            ("round_prefer_floor", "floor", "ceil", "round_prefer_ceil"),
        ),
        ("keep_aspect_ratio_policy", ("stretch",)),
        ("antialias", (0,)),
    ),
    "LSTM": (("input_forget", (0,)), ("layout", (0,))),
    "TopK": (("sorted", (1,)),),
    "BatchNormalization": (("training_mode", (0,)),),
    "TensorScatter": (("axis", (-2,)),),
}
ONLY_FIRST = ("MaxPool", "LayerNormalization", "Dropout")  # outputs after the first are not there
UNDILATED = ("AveragePool", "MaxPool", "LpPool")
FORMS = ("sparse_value", "value_string", "value_strings")
SCATTER_SINCE = (10, 9)  # docs/Changelog.md: fixed support for opset 18+ ScatterND
SCATTER = (
    "onnx/onnx-tensorrt#957; microsoft/onnxruntime#23618: 'Attribute reduction is not supported.'"
)
GRID_SINCE = (11, 2)
Said = Iterator[str]


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Every standard operator that has a restriction, for each version of the target."""
    for version in _tensorrt.versions(target):
        source, name = _tensorrt.source(version), _tensorrt.text([version])
        for node in graph.standard():
            for said in (*_constant(graph, node, version), *_general(graph, node)):
                yield Finding("limits", "error", said, node.place, node.operator, source)
            for said in _outputs(graph, node):
                yield Finding(
                    "limits",
                    "error",
                    said,
                    node.place,
                    node.operator,
                    source,
                    _dropping(graph, node),
                )
            special = SPECIAL.get(node.operator)
            for said in special(graph, node, version) if special else ():
                fix = _tensorrt.FIX if node.operator == "ScatterND" and _mendable(node) else ""
                told = SCATTER if node.operator == "ScatterND" else source
                yield Finding(
                    "limits", "error", f"{said} ({name})", node.place, node.operator, told, fix
                )


def _constant(graph: _graph.Graph, node: _graph.Node, version: tuple[int, int]) -> Said:
    for at, name, since in CONSTANT.get(node.operator, ()):
        given = node.inputs[at] if len(node.inputs) > at else ""
        if given and given not in graph.constants and version < since:
            when = f" before {since[0]}.{since[1]}" if since != NEVER else ""
            yield f"{node.operator}: {name} is computed; it must be constant{when}"


def _general(graph: _graph.Graph, node: _graph.Node) -> Said:
    for name, allowed in ATTRIBUTES.get(node.operator, ()):
        seen = node.attributes.get(name, allowed[0])
        if seen not in allowed and not (
            name == "nearest_mode" and node.attributes.get("mode") == "linear"
        ):
            yield f"{node.operator}: {name} is {seen!r}; allowed: {', '.join(map(repr, allowed))}"
    if node.operator in UNDILATED and set(node.attributes.get("dilations", ())) - {1}:
        yield f"{node.operator}: dilations {list(node.attributes['dilations'])}; allowed: all 1"
    for form in FORMS if node.operator == "Constant" else ():
        if form in node.attributes:
            yield f"Constant: a {form}; TensorRT has neither sparse tensors nor strings"


def _outputs(graph: _graph.Graph, node: _graph.Node) -> Said:
    if node.operator in ONLY_FIRST and len(node.outputs) > 1:
        used = [n for n in node.outputs[1:] if n in graph.consumers or n in graph.outputs]
        what = f"output {used[0]} is used" if used else "a second output is listed, though unused"
        yield f"{node.operator}: {what}; only the first is supported"


def _dropping(graph: _graph.Graph, node: _graph.Node) -> str:
    free = not any(n in graph.consumers or n in graph.outputs for n in node.outputs[1:])
    return _tensorrt.FIX if free else ""


def _scatter(graph: _graph.Graph, node: _graph.Node, version: tuple[int, int]) -> Said:
    seen = node.attributes.get("reduction")
    if seen is not None and (seen != "none" or version < SCATTER_SINCE):
        yield f"ScatterND: reduction is {seen!r}; allowed: none, left out before 10.9"


def _mendable(node: _graph.Node) -> bool:
    return node.attributes.get("reduction") == "none"


def _grid(graph: _graph.Graph, node: _graph.Node, version: tuple[int, int]) -> Said:
    sizes = graph.sizes.get(node.inputs[0])
    if sizes is not None and len(sizes) != 4 and version < GRID_SINCE:
        yield f"GridSample of {len(sizes)} axes; 4 are supported before 11.2"


def _topk(graph: _graph.Graph, node: _graph.Node, version: tuple[int, int]) -> Said:
    k = graph.value(node.inputs[1]) if len(node.inputs) > 1 else None
    if k is not None and int(k.ravel()[0]) > MOST_K:
        yield f"TopK: K is {int(k.ravel()[0])}; at most {MOST_K}"


def _recurrent(graph: _graph.Graph, node: _graph.Node, version: tuple[int, int]) -> Said:
    given = list(node.attributes.get("activations", ()))
    half = len(given) // 2
    if node.attributes.get("direction") == "bidirectional" and given[:half] != given[half:]:
        yield f"{node.operator}: activations {given} differ between the two directions"


def _dropout(graph: _graph.Graph, node: _graph.Node, version: tuple[int, int]) -> Said:
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    value = graph.value(name) if name else None
    if value is not None and bool(value.any()):
        yield "Dropout: training_mode is true; it must be false"


def _attention(graph: _graph.Graph, node: _graph.Node, version: tuple[int, int]) -> Said:
    for i, name in enumerate(("Q", "K", "V", "attn_mask")):
        sizes = graph.sizes.get(node.inputs[i]) if len(node.inputs) > i else None
        if sizes is not None and len(sizes) != 4:
            yield f"Attention: {name} has {len(sizes)} axes; 4 are supported"
    if any(node.inputs[4:]):
        yield "Attention: past_key, past_value and nonpad_kv_seqlen are not supported"
    if len([n for n in node.outputs if n]) > 1:
        yield "Attention: only the first output is supported"
    if node.attributes.get("softcap", 0.0):
        yield f"Attention: softcap {node.attributes['softcap']:g} is not supported"


def _eye(graph: _graph.Graph, node: _graph.Node, version: tuple[int, int]) -> Said:
    sizes = graph.sizes.get(node.inputs[0])
    if sizes is not None and not all(isinstance(s, int) for s in sizes):
        yield f"EyeLike of {list(sizes)}; its sizes must be fixed"


SPECIAL: Mapping[str, Callable[[_graph.Graph, _graph.Node, tuple[int, int]], Said]] = {
    "ScatterND": _scatter,
    "GridSample": _grid,
    "TopK": _topk,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "RNN": _recurrent,
    "Dropout": _dropout,
    "Attention": _attention,
    "EyeLike": _eye,
}


def fix(graph: _graph.Graph, target: Target) -> tuple[Any, list[str]]:
    """Outputs that nothing reads are dropped; so is a `reduction` that says none, ONNX's default."""
    made = onnx.ModelProto()
    made.CopyFrom(graph.proto)
    lines = []
    early = any(v < SCATTER_SINCE for v in _tensorrt.versions(target))
    read = {*graph.outputs, *(n for node in graph.nodes for n in node.inputs)}
    for node in made.graph.node:
        if node.domain not in _graph.STANDARD:
            continue
        name = node.name or node.op_type
        if node.op_type in ONLY_FIRST and len(node.output) > 1 and not read & set(node.output[1:]):
            del node.output[1:]
            lines.append(f"{name}: outputs that nothing reads dropped")
        for attribute in [a for a in node.attribute if a.name == "reduction"]:
            if early and node.op_type == "ScatterND" and attribute.s == b"none":
                node.attribute.remove(attribute)
                lines.append(f"{name}: reduction 'none' left out")
    return (made, lines) if lines else (graph.proto, [])
