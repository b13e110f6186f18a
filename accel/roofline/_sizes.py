"""A graph with its open axes bound: the sizes and types of all its values, without its weights."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accel import flatten, graph, shapes
from accel.errors import UsageError
from accel.plain import shown
from accel.roofline import _fold, _private
from accel.values import Port

MOST = 2**63 - 1  # onnx.proto: TensorShapeProto.Dimension.dim_value is an int64
BITS = {"int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2, "bool": 8, "bfloat16": 16}


@dataclass(frozen=True)
class Tensor:
    """A value's type and sizes; `dims` None: they cannot be told."""

    dtype: str  # onnx's name in small letters: "float", "float16", "int8", "uint4"
    dims: tuple[int, ...] | None

    @property
    def elements(self) -> int | None:
        """Their number."""
        return None if self.dims is None else math.prod(self.dims)

    @property
    def size_bytes(self) -> int | None:
        """As it lies in memory; types of less than a byte are packed."""
        bits = width_bits(self.dtype)
        return None if self.elements is None or bits is None else -(-self.elements * bits // 8)


@dataclass(frozen=True)
class Sized:
    """A graph of nodes over values whose sizes are known, or known to be unknown."""

    nodes: tuple[Any, ...]  # NodeProto, in the file's order
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: frozenset[str]
    tensors: Mapping[str, Tensor]
    functions: Mapping[tuple[str, str], Any] = field(
        default_factory=dict
    )  # (domain, name) -> proto
    opsets: tuple[Any, ...] = ()  # OperatorSetIdProto

    def of(self, name: str) -> Tensor:
        """A value's; of unknown type and sizes where nothing is known."""
        return self.tensors.get(name, Tensor("", None))


def width_bits(dtype: str) -> int | None:
    """Bits of one element; None for texts and for what is not a tensor."""
    if dtype in BITS:
        return BITS[dtype]
    if dtype.startswith("float8"):
        return 8
    if dtype == "double":
        return 64
    if dtype == "float":
        return 32
    found = re.fullmatch(r"u?(?:int|float|complex)(\d+)", dtype)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Opened:
    """A model without its heavy weights, which are inputs here: quick to bind again and again."""

    path: Path
    proto: Any
    weights: frozenset[str]
    ports: tuple[Port, ...]


def opened(path: Path) -> Opened:
    """Raises BadModel for a file that cannot be read."""
    proto = flatten.inlined(graph.open_model(path))
    light, weights = _light(proto)
    _unfixed(light)
    ports = tuple(graph.port(v) for v in proto.graph.input if v.name not in weights)
    return Opened(path, light, weights, ports)


def _unfixed(proto: Any) -> None:
    """Open axes that an exporter wrote as -1, as nothing but open."""
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 0:
                dim.ClearField("dim_value")


def bind(model: Path | Opened, sizes: Mapping[str, int]) -> Sized:
    """The graph with these sizes for its symbols; an axis without a symbol is named "input[axis]".

    Raises BadModel for a file that cannot be read, UsageError for a size below 1 and for a symbol
    that no input has."""
    import onnx

    model = opened(model) if isinstance(model, Path) else model
    _known(model, sizes)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    _bind(proto, model.weights, sizes)
    return sized(proto, model.weights)


def sized(proto: Any, weights: frozenset[str] = frozenset()) -> Sized:
    """A model with bound inputs, its sizes inferred."""
    import onnx

    own = {(f.domain, f.name): f for f in proto.functions}
    light = onnx.ModelProto()
    light.CopyFrom(proto)
    _private.add_sizes(light)
    made = _fold.infer(light)
    tensors = {t.name: Tensor(dtype(t.data_type), tuple(t.dims)) for t in made.graph.initializer}
    tensors |= _noted(made.graph)
    return Sized(
        nodes=tuple(proto.graph.node),
        inputs=tuple(v.name for v in proto.graph.input if v.name not in weights),
        outputs=tuple(v.name for v in proto.graph.output),
        weights=weights,
        tensors=tensors,
        functions=own,
        opsets=tuple(light.opset_import),
    )


def axes(ports: Sequence[Port]) -> tuple[str, ...]:
    """The open axes of a model's inputs, as `bind` names them, each once."""
    return tuple(dict.fromkeys(_axis(p.name, i, d) for p in ports for i, d in enumerate(p.shape) if not isinstance(d, int)))  # fmt: skip


def of_feed(ports: Sequence[Port], feed: Mapping[str, Any]) -> dict[str, int]:
    """The sizes that arrays give to a model's open axes."""
    return {
        _axis(port.name, i, dim): int(feed[port.name].shape[i])
        for port in ports
        for i, dim in enumerate(port.shape)
        if not isinstance(dim, int) and port.name in feed
    }


def _axis(name: str, axis: int, dim: int | str) -> str:
    return f"{name}[{axis}]" if dim == "?" else str(dim)


def _known(model: Opened, sizes: Mapping[str, int]) -> None:
    allowed = axes(model.ports)
    for name, size in sizes.items():
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            words = shown(", ".join(allowed), keep="") or "none"
            raise UsageError(
                f"{model.path} has no open axis {name!r}.{hint} Its open axes: {words}."
            )
        if not 1 <= size <= MOST:
            what = f"{model.path}: axis {name!r}"
            raise UsageError(
                f"{what} must have a size of {MOST} at most and 1 at least, not {size}."
            )


def _bind(proto: Any, weights: frozenset[str], sizes: Mapping[str, int]) -> None:
    """Sizes into the inputs; notes of an exporter, made of symbols, give way to inference."""
    proto.graph.ClearField("value_info")
    for value in proto.graph.input:
        if value.name in weights:
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value"):
                continue
            name = _axis(value.name, axis, dim.dim_param or "?")
            if name in sizes:
                dim.dim_value = sizes[name]
    for value in proto.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")


def _light(proto: Any) -> tuple[Any, frozenset[str]]:
    """Heavy weights become inputs: inference copies the model again and again."""
    import onnx

    names = frozenset(t.name for t in proto.graph.initializer)
    given = {v.name for v in proto.graph.input}
    made = onnx.ModelProto()
    made.ir_version = proto.ir_version
    made.opset_import.extend(proto.opset_import)
    made.functions.extend(proto.functions)
    made.graph.name = proto.graph.name
    for field_name in ("node", "input", "output"):
        getattr(made.graph, field_name).extend(getattr(proto.graph, field_name))
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) <= shapes.HEAVY:
            made.graph.initializer.append(tensor)
        elif tensor.name not in given:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            made.graph.input.append(value)
    return made, names


def _noted(part: Any) -> dict[str, Tensor]:
    """What inference noted of a graph's values, its subgraphs' too."""
    found = {v.name: _tensor(v) for v in (*part.output, *part.value_info, *part.input)}
    for node in part.node:
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                found |= {t.name: Tensor(dtype(t.data_type), tuple(t.dims)) for t in inner.initializer}  # fmt: skip
                found |= _noted(inner)
    return found


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    known = kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)
    dims = tuple(d.dim_value for d in kind.shape.dim) if known else None
    return Tensor(dtype(kind.elem_type), dims)


def dtype(kind: int) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(kind)).lower() if kind else ""
