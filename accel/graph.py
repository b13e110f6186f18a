"""ONNX graphs: open safely, save, describe, copy, walk into subgraphs and functions."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accel import flatten, flood, sound, sparse, tensors
from accel.content import digest as digest
from accel.errors import BadModel
from accel.plain import shown
from accel.values import Model, Port

INLINE_LIMIT_BYTES = 1_500_000_000  # protobuf refuses 2 GiB; weights go beside the file well before
PROTOBUF_BYTES = 2**31 - 1  # of one message
SHARED, SHARED_BYTES = 16, 1 << 30  # how often the same bytes may be read, where that is much
STRANGERS = {  # first bytes -> what it really is
    b"version https://git-lfs": "a git-LFS pointer (run: git lfs pull)",
    b"<!DOCTYPE": "an HTML page (a failed download?)",
    b"<html": "an HTML page (a failed download?)",
    **{bytes((0x80, protocol)): "a Python pickle" for protocol in (2, 3, 4, 5)},
    b"PK\x03\x04": "a zip archive (a .pt checkpoint?)",
    b"\x93NUMPY": "a NumPy array",
}


def open_model(path: Path) -> Any:
    """The ModelProto of a file, checked; its external data is read from its own folder only.

    Raises BadModel for anything missing, foreign, broken or unsafe."""
    proto = checked(path)
    tensors.fetch(proto, path)
    return proto


def dense(path: Path) -> Any:
    """The same as recipes read it: its sparse weights written out in full, the bodies of its functions in
    their nodes' place, and its weights initializers.

    Raises BadModel like `open_model`, and where that is too large."""
    proto = open_model(path)
    sparse.expand(proto.graph)
    proto = flatten.inlined(proto)
    flatten.lift(proto)
    return proto


def checked(path: Path) -> Any:
    """The same, with what lies beside it looked at but not read: it may be larger than memory."""
    proto = skeleton(path)
    if not proto.graph.node:
        raise BadModel(f"{path} holds no operators.")
    if wrong := sound.trouble(proto):
        raise BadModel(f"{path} is not a valid ONNX model: {shown(wrong.rstrip('.'), keep='')}.")
    places = [tensors.place(t, path) for t in tensors.every(proto) if tensors.beside(t)]
    held = sum(one.stat().st_size for one in {place.path for place in places})
    wanted = sum(place.length for place in places)
    if wanted > max(
        SHARED_BYTES, SHARED * held
    ):  # tensors that are one share their bytes; not a thousand
        raise BadModel(f"{path} reads {wanted} bytes of weights out of {held} beside it.")
    return proto


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
    if head[8:9] == b"{" and not any(head[4:8]):  # a length of eight bytes, then JSON
        raise BadModel(f"{path} is a safetensors file, not an ONNX model.")
    if (size := path.stat().st_size) > PROTOBUF_BYTES:
        raise BadModel(
            f"{path} is {size / 1e9:.2f} GB in one file; protobuf takes {PROTOBUF_BYTES / 1e9:.2f}. "
            "Write it again with its weights beside it, as accel export does."
        )


def _content(path: Path) -> bytes:
    """All of a file. Raises BadModel where protobuf would make too many objects of it."""
    content = path.read_bytes()
    if wrong := flood.beyond(content):
        raise BadModel(f"{path} is damaged: {wrong}.")
    return content


def save(proto: Any, path: Path) -> None:
    """Write a model; weights go to one file beside it when they would not fit in protobuf."""
    import onnx

    large = proto.ByteSize() > INLINE_LIMIT_BYTES
    extra: dict[str, Any] = {"save_as_external_data": True, "location": f"{path.name}.data"}
    onnx.save(proto, str(path), **(extra if large else {}))


def copy(source: Path, target: Path, read: Any = None) -> Path:
    """Copy a file, with its external data beside it where it is an ONNX graph that has some.
    `read`: what `skeleton` gives of it, where that is at hand.

    Raises BadModel like `external_data`, and for data that would take the copy's own name."""
    target.parent.mkdir(exist_ok=True)
    beside = external_data(source, read)
    if target.name in beside and target.name != source.name:
        raise BadModel(
            f"{source} keeps its weights in {target.name!r}, which its copy is to be called: give that "
            f"file another name."
        )
    shutil.copyfile(source, target)
    for name in beside:
        (target.parent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / name, target.parent / name)
    return target


def external_data(path: Path, read: Any = None) -> tuple[str, ...]:
    """Names, below its folder, of the files that hold an ONNX graph's weights, sorted; none for
    other files. `read`: as in `copy`.

    Raises BadModel for a file that is broken, and for data that lies outside its folder."""
    proto = (read or skeleton(path)) if path.suffix == ".onnx" else None
    there = [t for t in tensors.every(proto) if tensors.beside(t)] if proto is not None else []
    places = {tensors.place(tensor, path).path for tensor in there}
    return tuple(sorted(str(place.relative_to(path.parent)) for place in places))


def rename_data(path: Path, names: Mapping[str, str]) -> None:
    """Give the files beside a graph that hold its weights other names, there and in the graph."""
    if not names:
        return
    proto = skeleton(path)
    for tensor in tensors.every(proto):
        if tensors.beside(tensor):
            held = str(tensors.place(tensor, path).path.relative_to(path.parent))
            for entry in (e for e in tensor.external_data if e.key == "location"):
                entry.value = names[held]
    for held, name in names.items():
        (path.parent / held).replace(path.parent / name)
    path.write_bytes(proto.SerializeToString())


def skeleton(path: Path) -> Any:
    """The ModelProto of a file: not checked, and without what lies beside it.

    Raises BadModel for a file that is missing, foreign or broken."""
    import onnx
    from google.protobuf.message import DecodeError

    _sniff(path)
    try:  # onnx.load would take another format by the name's ending
        proto = onnx.load_model_from_string(_content(path))
    except (DecodeError, RuntimeError) as error:
        why = first_line(error)
        if "MaxDepth" in why:
            why = "its subgraphs lie too deep in one another (protobuf reads 100 messages)"
        raise BadModel(f"{path} is not a whole ONNX model: {why.rstrip('.')}.") from None
    if wrong := sound.beyond(proto) or sound.unreadable(proto):
        raise BadModel(f"{path} is damaged: {wrong}.")
    sound.spelled(proto)
    return proto


def describe(path: Path, trail: tuple[str, ...] = ()) -> Model:
    """The file as a Model: ports, digest, story. Raises BadModel like `open_model`."""
    return described(checked(path), path, trail)


def described(proto: Any, path: Path, trail: tuple[str, ...] = ()) -> Model:
    """What `describe` tells of a graph that `checked` or `open_model` gave."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    try:
        return Model(
            path=path,
            digest=digest(proto, path),
            inputs=tuple(port(v) for v in proto.graph.input if v.name not in weights),
            outputs=tuple(port(v) for v in proto.graph.output),
            trail=trail,
        )
    except (KeyError, TypeError, ValueError) as error:  # a port of an unknown data type
        raise BadModel(f"{path} is damaged: {first_line(error)}.") from None


def port(value: Any) -> Port:
    import onnx

    kind = value.type.tensor_type
    dims = tuple(_dim(d) for d in kind.shape.dim)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else "unknown"
    return Port(value.name, str(dtype), dims)


def _dim(dim: Any) -> int | str:
    """Some exporters write -1 for an open axis."""
    known = dim.HasField("dim_value") and dim.dim_value >= 0
    return int(dim.dim_value) if known else (dim.dim_param or "?")


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
