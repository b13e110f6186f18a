"""ONNX graphs: open safely, save, describe, digest, walk into subgraphs and functions."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accel.errors import BadModel
from accel.values import Model, Port

INLINE_LIMIT_BYTES = 1_500_000_000  # protobuf refuses 2 GiB; weights go beside the file well before
COSMETIC = ("doc_string", "metadata_props")  # wherever they stand
ORIGIN = ("producer_name", "producer_version", "domain")  # of a model: who made it
STRANGERS = {  # first bytes -> what it really is
    b"version https://git-lfs": "a git-LFS pointer (run: git lfs pull)",
    b"<!DOCTYPE": "an HTML page (a failed download?)",
    b"<html": "an HTML page (a failed download?)",
    **{bytes((0x80, protocol)): "a Python pickle" for protocol in (2, 3, 4, 5)},
    b"PK\x03\x04": "a zip archive (a .pt checkpoint?)",
}


def open_model(path: Path) -> Any:
    """The ModelProto of a file, checked; its external data is read from its own folder only.

    Raises BadModel for anything missing, foreign, broken or unsafe."""
    import onnx
    from google.protobuf.message import DecodeError

    _sniff(path)
    try:
        proto = onnx.load(str(path))  # onnx >= 1.21 refuses data outside the model's folder
        if proto.ByteSize() < INLINE_LIMIT_BYTES:
            onnx.checker.check_model(proto)
    except (DecodeError, RuntimeError) as error:
        raise BadModel(f"{path} is not a whole ONNX model: {first_line(error)}") from None
    except (onnx.checker.ValidationError, OSError, ValueError, TypeError) as error:
        raise BadModel(f"{path} is not a valid ONNX model: {first_line(error)}") from None
    if not proto.graph.node:
        raise BadModel(f"{path} holds no operators.")
    if strange := _strange(proto):
        raise BadModel(f"{path} is damaged: {strange}.")
    return proto


def _strange(proto: Any) -> str:
    """What the checker lets pass: a tensor of a data type that ONNX has not."""
    import onnx

    known = set(onnx.TensorProto.DataType.values())  # 0 too: of an attribute that is no tensor
    strange = (t for part in _parts(proto) for t in _tensors(part) if t.data_type not in known)
    return next(
        (f"{t.name or 'a constant'} is of the data type {t.data_type}" for t in strange), ""
    )


def _parts(proto: Any) -> tuple[Any, ...]:
    return (proto.graph, *proto.functions)


def first_line(error: BaseException) -> str:
    """What a foreign error says, in one line."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _sniff(path: Path) -> None:
    if not path.is_file():
        inside = path / "model.onnx"
        hint = f" Did you mean {inside}?" if inside.is_file() else ""
        raise BadModel(f"{path} is not a file.{hint}")
    if path.suffix == ".py":
        raise BadModel(f"{path} is Python, not an ONNX model. Make one with: accel export {path}")
    with path.open("rb") as stream:
        head = stream.read(32)
    if not head:
        raise BadModel(f"{path} is empty.")
    for start, what in STRANGERS.items():
        if head.startswith(start):
            raise BadModel(f"{path} is {what}, not an ONNX model.")


def save(proto: Any, path: Path) -> None:
    """Write a model; weights go to one file beside it when they would not fit in protobuf."""
    import onnx

    large = proto.ByteSize() > INLINE_LIMIT_BYTES
    extra: dict[str, Any] = {"save_as_external_data": True, "location": f"{path.name}.data"}
    onnx.save(proto, str(path), **(extra if large else {}))


def copy(source: Path, target: Path, read: Any = None) -> Path:
    """Copy a file, with its external data beside it where it is an ONNX graph that has some.
    `read`: what `skeleton` gives of it, where that is at hand.

    Raises BadModel like `external_data`."""
    target.parent.mkdir(exist_ok=True)
    beside = external_data(source, read)
    shutil.copyfile(source, target)
    for name in beside:
        (target.parent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / name, target.parent / name)
    return target


def external_data(path: Path, read: Any = None) -> tuple[str, ...]:
    """Names, below its folder, of the files that hold an ONNX graph's weights, sorted; none for
    other files. `read`: as in `copy`.

    Raises BadModel for a file that is broken, and for data that lies outside its folder."""
    names = _external_names(read or skeleton(path)) if path.suffix == ".onnx" else ()
    for name in names:
        if not (path.parent / name).resolve().is_relative_to(path.parent.resolve()):
            raise BadModel(f"{path} keeps its weights outside its folder, at {name!r}.")
        if not (path.parent / name).is_file():
            raise BadModel(f"{path} keeps its weights in {name!r}, which is not beside it.")
    return names


def skeleton(path: Path) -> Any:
    """The ModelProto of a file as it stands: not checked, and without what lies beside it.

    Raises BadModel for a file that is missing, foreign or broken."""
    import onnx
    from google.protobuf.message import DecodeError

    _sniff(path)
    try:
        return onnx.load(path, load_external_data=False)
    except (DecodeError, RuntimeError) as error:
        raise BadModel(f"{path} is not a whole ONNX model: {first_line(error)}") from None


def _external_names(model: Any) -> tuple[str, ...]:
    places = (e for part in _parts(model) for t in _tensors(part) for e in t.external_data)
    return tuple(sorted({e.value for e in places if e.key == "location"}))


def _tensors(part: Any) -> Iterator[Any]:
    """Every tensor that a graph or a function holds, in its subgraphs too."""
    yield from getattr(part, "initializer", ())
    for attribute in (a for node in part.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)


def describe(path: Path, trail: tuple[str, ...] = ()) -> Model:
    """The file as a Model: ports, digest, story. Raises BadModel like `open_model`."""
    proto = open_model(path)
    weights = {tensor.name for tensor in proto.graph.initializer}
    try:
        return Model(
            path=path,
            digest=digest(proto),
            inputs=tuple(_port(v) for v in proto.graph.input if v.name not in weights),
            outputs=tuple(_port(v) for v in proto.graph.output),
            trail=trail,
        )
    except (KeyError, TypeError, ValueError) as error:  # the checker passes unknown data types,
        raise BadModel(
            f"{path} is damaged: {first_line(error)}"
        ) from None  # and sizes that do not fit


def _port(value: Any) -> Port:
    import onnx

    kind = value.type.tensor_type
    dims = tuple(
        d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in kind.shape.dim
    )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else "unknown"
    return Port(value.name, str(dtype), dims)


def digest(proto: Any) -> str:
    """sha256 of what the model computes: blind to doc strings, metadata, producer and storage layout.

    Everything else counts, the nodes' names and order too: recipes choose by name, and runtimes and
    the Q/DQ writer read the types and shapes that are noted of inner values."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for name in ORIGIN:
        copy.ClearField(name)
    _plain(copy)
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).hexdigest()


def _plain(proto: Any) -> None:
    """Without what is cosmetic in any part of it; graphs nest deeper than Python's calls may."""
    import onnx
    from google.protobuf.message import Message

    left = [proto]
    while left:
        part = left.pop()
        for name in COSMETIC:
            if name in part.DESCRIPTOR.fields_by_name:
                part.ClearField(name)
        if isinstance(part, onnx.TensorProto):
            _plain_tensor(part)
            continue
        for field, value in part.ListFields():
            if field.message_type is not None:
                left += [value] if isinstance(value, Message) else value


def _plain_tensor(tensor: Any) -> None:
    """Typed fields and raw bytes of equal content become the same bytes."""
    import onnx

    name = tensor.name
    if tensor.data_type != onnx.TensorProto.STRING:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)))
    tensor.name = name


def walk(proto: Any) -> Iterator[Any]:
    """Every node: of the graph, of its subgraphs, and of the model's functions."""
    yield from _nodes(proto.graph.node)
    for function in proto.functions:
        yield from _nodes(function.node)


def _nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _nodes(inner.node)


def operators(proto: Any) -> dict[str, int]:
    """How many nodes of each operator, most frequent first; other domains are named."""
    names = (f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in walk(proto))
    return dict(Counter(names).most_common())


def parameters(proto: Any) -> int:
    """Elements of all initializers."""
    import math

    return sum(math.prod(tensor.dims) for tensor in proto.graph.initializer)


def dtype_census(proto: Any) -> dict[str, int]:
    """Initializer elements by dtype."""
    import math

    import onnx

    found: Counter[str] = Counter()
    for tensor in proto.graph.initializer:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        found[str(kind)] += math.prod(tensor.dims)
    return dict(found)
