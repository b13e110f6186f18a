"""Opset and IR version: what the parser was built against.

TensorRT takes opsets 9 and newer. A newer opset than a parser knows may mean another operator by the
same name. A newer IR version is a warning of the parser's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx

from accel.legality import _graph, _tensorrt
from accel.values import Finding, Request, Target

ENGINES = _tensorrt.ENGINES
OLDEST = 9
BOTH_TELL = "NVIDIA TensorRT ONNX Opset Guide (11.x): opset 9 and above"
IR = "onnx/onnx-tensorrt#479: 'ONNX model has a newer ir_version (0.0.6) than this parser was built against (0.0.5)'"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Errors for opsets that no list takes, unknown for those between two lists."""
    for version in _tensorrt.versions(target):
        sure, later = _tensorrt.opsets(version)
        name, source = _tensorrt.text([version]), _tensorrt.source(version)
        said = f"opset {graph.opset}; {name} takes {OLDEST} to {sure}"
        if graph.opset > later:
            yield Finding("opset", "error", said, source=source, fix=_tensorrt.FIX)
        elif graph.opset > sure:
            between = f"{said} for sure, and a newer one {later}: no list of {name[9:]} was read"
            yield Finding("opset", "unknown", between, source=source, fix=_tensorrt.FIX)
        elif graph.opset < OLDEST:
            old = f"opset {graph.opset}; TensorRT takes {OLDEST} and newer"
            yield Finding("opset", "error", old, source=BOTH_TELL, fix=_tensorrt.FIX)
        newest = _newest_ir(later)
        if graph.proto.ir_version > newest:
            said = f"IR version {graph.proto.ir_version}; ONNX of opset {later}, which {name} takes, has {newest}"
            yield Finding("opset", "warning", said, source=IR, fix=_tensorrt.FIX)


def _newest_ir(opset: int) -> int:
    """Of the ONNX releases that have this opset as their newest."""
    rows = [(int(row[1]), int(row[2])) for row in onnx.helper.VERSION_TABLE]
    return max((ir for ir, of in rows if of == opset), default=max(ir for ir, _ in rows))


def fix(graph: _graph.Graph, target: Target) -> tuple[Any, list[str]]:
    """Convert to the newest opset that every version of the target takes for sure.

    Left alone: a model with functions (onnx converts none), and what onnx cannot convert."""
    sure = min(_tensorrt.opsets(v)[0] for v in _tensorrt.versions(target))
    wanted = min(max(graph.opset, OLDEST), sure)
    proto, lines = graph.proto, []
    if wanted != graph.opset and not proto.functions and not graph.trouble:
        try:
            proto = onnx.version_converter.convert_version(proto, wanted)
            onnx.checker.check_model(proto)
            lines.append(f"opset {graph.opset} converted to {wanted}")
        except Exception:  # whatever its C++ raises: the finding stays
            proto, wanted = graph.proto, graph.opset
    newest = _newest_ir(sure)
    opset = max((o.version for o in proto.opset_import if o.domain in _graph.STANDARD), default=1)
    if opset <= sure and proto.ir_version > newest:
        made = onnx.ModelProto()
        made.CopyFrom(proto)
        lines.append(f"IR version {proto.ir_version} lowered to {newest}")
        made.ir_version, proto = newest, made
    return proto, lines
