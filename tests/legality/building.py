"""Graphs of a few nodes, and what is known of each: the corpus's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from accel.values import Feed, Request, Target

F, H, D = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
I64, I32, I8, U8, B = (
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.BOOL,
)
Port = tuple[str, int, Sequence[int | str | None]]


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """Names apart by spaces; "_" stands for an input that is left out."""
    given = ["" if n == "_" else n for n in inputs.split()]
    domain = attributes.pop("domain", "")
    name = attributes.pop("name", f"{operator.lower()}_{outputs.split()[0]}")
    return helper.make_node(
        operator, given, outputs.split(), name=name, domain=domain, **attributes
    )


def weight(name: str, value: Any, dtype: str = "float32") -> Any:
    """An initializer."""
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def drawn(name: str, *shape: int, dtype: str = "float32", scale: float = 1.0) -> Any:
    """An initializer of seeded normal values."""
    values = np.random.default_rng(len(name)).normal(size=shape) * scale
    return weight(name, values, dtype)


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    weights: Sequence[Any] = (),
    *,
    opset: int = 17,
    ir: int = 8,
    domains: Sequence[str] = (),
    functions: Sequence[Any] = (),
) -> Any:
    """A ModelProto; other domains are imported at version 1."""
    graph = helper.make_graph(
        list(nodes), "corpus", [port(p) for p in inputs], [port(p) for p in outputs], list(weights)
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=list(functions))


def body(nodes: Sequence[Any], inputs: Sequence[Port], outputs: Sequence[Port]) -> Any:
    """A subgraph."""
    return helper.make_graph(
        list(nodes), "body", [port(p) for p in inputs], [port(p) for p in outputs]
    )


def port(given: Port) -> Any:
    """A ValueInfoProto."""
    name, kind, shape = given
    return helper.make_tensor_value_info(name, kind, list(shape))


def target(
    version: str = "10.15", *, memory_bytes: int | None = None, engine: str = "tensorrt"
) -> Target:
    """A board that has this TensorRT."""
    return Target(
        "board",
        "a board",
        (engine,),
        False,
        memory_bytes=memory_bytes,
        software={"tensorrt": version} if version else {},
    )


def feed(proto: Any, dynamic: int = 2) -> Feed:
    """Seeded values for every input."""
    draw, made = np.random.default_rng(7), {}
    weights = {t.name for t in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name in weights:
            continue
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        shape = [d.dim_value or dynamic for d in value.type.tensor_type.shape.dim]
        values = draw.normal(size=shape) if kind.kind == "f" else draw.integers(0, 2, shape)
        made[value.name] = np.asarray(values).astype(kind)
    return made


@dataclass(frozen=True)
class Known:
    """A graph with a known answer: what its thread reports, and what must be found."""

    name: str
    proto: Any
    thread: str  # repository#number, or the document
    quote: str  # of the error that it reports
    expected: frozenset[tuple[str, str]]  # (rule, level), all of them
    target: Target = field(default_factory=target)
    requests: bool = True  # one that tells the sizes of dynamic axes
    fixed: bool = False  # the automatic fix mends every error of it


def known(
    name: str,
    proto: Any,
    thread: str,
    quote: str,
    *expected: str,
    version: str = "10.15",
    **more: Any,
) -> Known:
    """`expected`: "rule level"."""
    pairs = frozenset((e.split()[0], e.split()[1]) for e in expected)
    return Known(name, proto, thread, quote, pairs, more.pop("target", target(version)), **more)


def requests(proto: Any) -> list[Request]:
    """One, with every dynamic axis at 2."""
    return [Request("all", 1.0, feed(proto))]
