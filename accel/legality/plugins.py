"""Operators outside of ONNX's own: ours, with a function that stands in for each, and others.

TensorRT takes a plugin of the operator's name where `plugin_namespace` is on the node and the plugin is
registered, else the model's own function of that name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accel import catalog
from accel.legality import _graph, _tensorrt
from accel.values import Finding, Request, Target

ENGINES = _tensorrt.ENGINES
DOMAIN = "accel.kernels"
NAMESPACE = "plugin_namespace"
SINCE = (10, 13)  # ahead-of-time plugins in Python's bindings: see pyproject.toml
STRANGER = (
    "NVIDIA/TensorRT#1515: 'We only support standard ONNX ops'; a plugin of the name may exist"
)
LOST = (
    "NVIDIA/TensorRT#1775: 'Plugin not found, are the plugin name, version, and namespace correct?'"
)
FUNCTIONS = "onnx/onnx-tensorrt docs/Changelog.md, 9.0 EA (2023-08-04): local functions"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Every node of another domain, in the model as it is."""
    bodies = {(f.domain, f.name) for f in graph.proto.functions}
    for node in _others(graph.proto):
        first = next(iter(node.output), "?")
        place, key = node.name or f"{node.op_type} of {first}", (node.domain, node.op_type)
        if node.domain == DOMAIN:
            yield from _ours(node, key in bodies, place, target)
        elif key not in bodies:
            said = f"{node.domain}.{node.op_type} is not an operator of ONNX, and no function defines it"
            yield Finding("plugins", "unknown", said, place, node.op_type, STRANGER)


def _others(proto: Any) -> Iterator[Any]:
    from accel import graph as graphs

    return (n for n in graphs.walk(proto) if n.domain not in _graph.STANDARD)


def _ours(node: Any, has_body: bool, place: str, target: Target) -> Iterator[Finding]:
    name = node.op_type
    if name not in kernels():
        said = f"{DOMAIN}.{name} is none of accel's kernels ({', '.join(sorted(kernels()))})"
        yield Finding("plugins", "error", said, place, name, LOST)
        return
    if not has_body:
        said = f"{DOMAIN}.{name} has no function in the model: where its plugin is not, nothing runs it"
        again = "accel swap MODEL, on the graph without it"
        yield Finding("plugins", "error", said, place, name, LOST, again)
    if NAMESPACE not in {a.name for a in node.attribute}:
        said = f"{DOMAIN}.{name} without {NAMESPACE}: TensorRT takes the function, never the plugin"
        yield Finding("plugins", "warning", said, place, name, FUNCTIONS)
    early = [v for v in _tensorrt.versions(target) if v < SINCE]
    if early and has_body:
        said = f"{_tensorrt.text(early)} has no ahead-of-time plugins: the function runs in {name}'s place"
        yield Finding("plugins", "note", said, place, name, FUNCTIONS)


@functools.cache
def kernels() -> Mapping[str, str]:
    """Operator -> member of kernels/, read in their source: importing them would need Numba."""
    found = {}
    for member in catalog.names("kernels"):
        text = (catalog.ROOT / "kernels" / f"{member}.py").read_text(encoding="utf-8")
        for name in re.findall(r'^OP = "(\w+)"', text, re.MULTILINE):
            found[name] = member
    return found
