"""What each node of a graph does: operations, and bytes that it moves at least."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import flatten
from accel.roofline import _constant, _flow, _ops, _site, _sizes
from accel.roofline._flow import Flow
from accel.roofline._site import Unknown
from accel.roofline._sizes import Opened, Sized


@dataclass(frozen=True)
class NodeWork:
    """One node's; with no fusion it reads all its inputs and writes all its outputs."""

    name: str
    operator: str
    dtype: str  # that it computes in
    operations: int
    read_bytes: int
    written_bytes: int
    unknown: str = ""  # why its cost cannot be told; its numbers are 0 then


@dataclass(frozen=True)
class Work:
    """A whole graph's, for one size of each open axis."""

    nodes: tuple[NodeWork, ...]
    operations: Mapping[str, int]  # by the type that they are of
    least_bytes: int  # weights and inputs once, and outputs
    float32_as: str = "float32"


def work(model: Path | Opened, sizes: Mapping[str, int], *, float32_as: str = "float32") -> Work:
    """Operations and bytes of a model with these sizes for its open axes (see `axes`).

    `float32_as`: what a runtime's hint makes of float32, "tf32", "bfloat16" or "float16"; weights and
    what lies between nodes have that width then.
    Raises BadModel for a file that cannot be read, UsageError for a size below 1 and for a symbol
    that no input has."""
    return of(_sizes.bind(model, sizes), float32_as)


def of(sized: Sized, float32_as: str = "float32") -> Work:
    """The work of a graph with bound sizes."""
    flow = _flow.of(sized, float32_as)
    nodes = tuple(_nodes(flow))
    operations: Counter[str] = Counter()
    for node in nodes:
        operations[node.dtype] += node.operations
    least_bytes = sum(count for _, count in _flow.least(flow))
    return Work(nodes, {k: v for k, v in operations.items() if v}, least_bytes, float32_as)


def _nodes(flow: Flow) -> Iterator[NodeWork]:
    """Every node that runs at each call: not those over weights alone."""
    for node in flow.sized.nodes:
        if _constant.kind(node) == "Constant" or _constant.is_fixed(node, flow.fixed):
            continue
        name = node.name or next(iter(node.output), "")
        operator = _site.operator(node)
        try:
            dtype, operations = _computed(flow, node)
            moved = sum(_flow.read(flow, node).values()), _flow.written(flow, node)
            yield NodeWork(name, operator, dtype, operations, *moved)
        except Unknown as reason:
            yield NodeWork(name, operator, "", 0, 0, 0, str(reason))


def _computed(flow: Flow, node: Any) -> tuple[str, int]:
    """The type and the number of a node's operations. Raises Unknown."""
    dtype = _flow.computes_in(flow, node)
    if _constant.kind(node) == "DequantizeLinear" and _flow.dissolves(flow, node):
        return dtype, 0
    if (node.domain, node.op_type) in flow.sized.functions:
        inside, operations = _body(flow, node)
        # a kernel computes in the type of its values; its body may be written in float32, to be exact
        return dtype if node.domain == flatten.KERNELS else inside, operations
    if _site.operator(node) == "If":
        return _cheaper(flow, node)
    if any(True for _ in _constant.subgraphs(node)):
        raise Unknown("how often its body runs is not in the graph")
    try:
        return dtype, _ops.operations(_site.of(node, flow.sized))
    except (LookupError, ValueError, ZeroDivisionError) as error:
        raise Unknown(f"its attributes or sizes do not fit together: {error!r}") from None


def _body(flow: Flow, node: Any) -> tuple[str, int]:
    """A function's: one node, which a kernel runs; its operations are those of its body, but for what
    the body makes of weights alone: engines fold that, and a kernel unpacks while it multiplies."""
    import onnx
    import onnx.inliner

    taken = [_value(name, flow.sized) for name in node.input if name]
    given = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "body", taken, given)
    functions = list(flow.sized.functions.values())
    opsets = list(flow.sized.opsets)
    model = onnx.helper.make_model(graph, functions=functions, opset_imports=opsets)
    weights = frozenset(name for name in node.input if name in flow.fixed)
    inner = _sizes.sized(onnx.inliner.inline_local_functions(model), weights)
    return _total(of(inner, flow.float32_as).nodes)


def _value(name: str, sized: Sized) -> Any:
    import onnx

    tensor = sized.of(name)
    if tensor.dims is None or not tensor.dtype:
        raise Unknown(f"the size of {name!r} is not known")
    kind = onnx.TensorProto.DataType.Value(tensor.dtype.upper())
    return onnx.helper.make_tensor_value_info(name, kind, tensor.dims)


def _cheaper(flow: Flow, node: Any) -> tuple[str, int]:
    """Which branch of an If runs is not known: the one with fewer operations, at least."""
    found = []
    for inner in _constant.subgraphs(node):
        branch = Sized(
            nodes=tuple(inner.node),
            inputs=(),
            outputs=tuple(v.name for v in inner.output),
            weights=frozenset(t.name for t in inner.initializer),
            tensors=flow.sized.tensors,
            functions=flow.sized.functions,
            opsets=flow.sized.opsets,
        )
        found.append(_total(of(branch, flow.float32_as).nodes))
    return min(found, key=lambda branch: branch[1])


def _total(nodes: tuple[NodeWork, ...]) -> tuple[str, int]:
    """All operations, and the type that most of them are of. Raises Unknown."""
    for node in nodes:
        if node.unknown:
            raise Unknown(f"{node.operator} inside of it: {node.unknown}")
    by_type: Counter[str] = Counter()
    for node in nodes:
        by_type[node.dtype] += node.operations
    return max(by_type, key=lambda d: by_type[d], default=""), sum(by_type.values())
