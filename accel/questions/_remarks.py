"""What is legal in a graph and seldom meant: told, not refused."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accel import graph, shapes, tensors

NOT_FINITE = {"FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16"}
LARGEST_BYTES = 1 << 40  # of a port: no machine that accel knows of has as much
RUNTIMES = ("", "com.microsoft")  # domains whose operators engines know; and all of ai.onnx
ENDLESS = 2**63 - 1  # what exporters write where a loop has no count
CARRIED = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape")  # a truth stays what it is


def of(proto: Any, path: Path) -> Iterator[str]:
    """A line for each thing."""
    for tensor in tensors.every(proto):
        yield from _not_finite(tensor, path)
    for value in (*proto.graph.input, *proto.graph.output):
        yield from _too_large(value)
    yield from (f"{said}: engines refuse that" for said in shapes.contradictions(proto))
    yield from _strangers(proto)
    yield from _loops(proto.graph, ChainMap())


def _not_finite(tensor: Any, path: Path) -> Iterator[str]:
    import numpy as np

    dtype = NOT_FINITE.get(tensors.kind(tensor))
    if dtype is None:
        return
    nan = infinite = 0
    for piece in tensors.pieces(tensor, path):
        values = np.frombuffer(piece, dtype)
        with np.errstate(all="ignore"):
            whole = values.sum(dtype="float64" if dtype == "float64" else "float32")
        if not np.isfinite(whole):  # a sum is ten times as quick as a look at each
            nan += int(np.isnan(values).sum())
            infinite += int(np.isinf(values).sum())
    if nan or (
        infinite and tensors.count(tensor) > 1
    ):  # a scalar of -inf is what masks are made of
        of_all = f"of {tensors.count(tensor):,} values"
        yield f"{tensor.name or 'a constant'} holds {nan} NaN and {infinite} infinities {of_all}"


def _too_large(value: Any) -> Iterator[str]:
    port = graph.port(value)
    total = 1
    for size in port.shape:
        total *= size if isinstance(size, int) else 1
    if total > LARGEST_BYTES:
        yield f"no machine holds {port.name}: {list(port.shape)} of {port.dtype}"


def _strangers(proto: Any) -> Iterator[str]:
    own = {(f.domain, f.name) for f in proto.functions}
    found = {(n.domain, n.op_type) for n in graph.walk(proto)} - own
    for domain, name in sorted(found):
        if domain not in RUNTIMES and domain.partition("ai.onnx")[0]:
            yield f"{domain}.{name} is no operator of ONNX: an engine needs a plugin for it"


def _constants(part: Any) -> dict[str, Any]:
    """Of a graph: the tensor that stands behind each name that is constant."""
    found = {t.name: t for t in part.initializer}
    for node in part.node:
        if node.op_type == "Constant" and not node.domain and node.output:
            found.update((node.output[0], a.t) for a in node.attribute if a.HasField("t"))
    return found


def _loops(part: Any, outer: ChainMap[str, Any]) -> Iterator[str]:
    known = outer.new_child(_constants(part))  # a copy for each branch would be one of all weights
    for node in part.node:
        bodies = [a.g for a in node.attribute if a.HasField("g")]
        loop = node.op_type == "Loop" and not node.domain
        if loop and bodies and _endless(node, bodies[0], known):
            name = f"Loop {node.name}".strip()
            yield f"{name} never ends: it has no count, and its condition stays true"
        for body in bodies:
            yield from _loops(body, known)


def _endless(node: Any, body: Any, known: ChainMap[str, Any]) -> bool:
    """No trip count, a condition that is true at first, and a body that hands it on or says true."""
    if len(body.input) < 2 or not body.output:
        return False
    count, first = (*node.input, "", "")[:2]
    if (count and _value(known.get(count)) != ENDLESS) or (first and not _value(known.get(first))):
        return False
    inside = known.new_child(_constants(body))
    makers = {name: n for n in body.node for name in n.output if _carries(n)}
    name = body.output[0].name
    while (maker := makers.pop(name, None)) is not None:
        name = maker.input[0]
    return name == body.input[1].name or bool(_value(inside.get(name)))


def _carries(node: Any) -> bool:
    """Another domain's operator may have the name, and no input: onnx's checker does not know it."""
    return node.op_type in CARRIED and not node.domain and bool(node.input)


def _value(tensor: Any) -> Any:
    import onnx

    if tensor is None or tensors.beside(tensor) or tensors.count(tensor) != 1:
        return None
    return onnx.numpy_helper.to_array(tensor).ravel().tolist()[0]  # a text has no item()
