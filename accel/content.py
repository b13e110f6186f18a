"""sha256 of what a model computes, in pieces: weights are never copied, nor read as a whole.

It is the digest of one serialised ModelProto in which everything cosmetic is cleared and every tensor
holds raw bytes. That message may be larger than protobuf writes, so its parts are made one by one:

    what stands before the graph | tag, length | nodes, name | weight, weight, ... | ports | the rest
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accel import tensors

COSMETIC = ("doc_string", "metadata_props")  # wherever they stand
ORIGIN = ("producer_name", "producer_version", "domain")  # of a model: who made it
GRAPH, WEIGHT, RAW = (
    7,
    5,
    9,
)  # numbers of ModelProto.graph, GraphProto.initializer, TensorProto.raw_data
UNEVEN = ("BOOL", *tensors.BITS)  # of equal values, the bytes may differ
HERE = Path()


def digest(proto: Any, path: Path = HERE) -> str:
    """sha256 of what the model computes: blind to doc strings, metadata, producer and storage layout.

    Everything else counts, the nodes' names and order too: recipes choose by name, and runtimes and
    the Q/DQ writer read the types and shapes that are noted of inner values. `path` is where the file
    lies, for values that lie beside it and were not read."""
    total = hashlib.sha256()
    for piece in _pieces(proto, path):
        total.update(piece)
    return total.hexdigest()


def _pieces(proto: Any, path: Path) -> Iterator[bytes]:
    graph = proto.graph
    first, last = _around(graph, WEIGHT, (), path)
    heads = [_head(tensor, path) for tensor in graph.initializer]
    length = len(first) + len(last) + sum(_framed(*head) for head in heads)
    before, behind = _around(proto, GRAPH, ORIGIN, path)
    yield before + _tag(GRAPH) + _varint(length) + first
    for tensor, (head, size) in zip(graph.initializer, heads, strict=True):
        yield _tag(WEIGHT) + _varint(len(head) + size) + head
        if size:
            yield from _values(tensor, path)
    yield last + behind


def _framed(head: bytes, size: int) -> int:
    return len(_tag(WEIGHT)) + len(_varint(len(head) + size)) + len(head) + size


def _head(tensor: Any, path: Path) -> tuple[bytes, int]:
    """A weight's message but for its bytes, and how many those are; a text's whole message."""
    import onnx

    if tensor.data_type == tensors.STRING:
        return _plain_tensor(tensor, path).SerializeToString(deterministic=True), 0
    size = tensors.size(tensor)
    made = onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type, name=tensor.name)
    return made.SerializeToString(deterministic=True) + _tag(RAW) + _varint(size), size


def _values(tensor: Any, path: Path) -> Iterator[bytes]:
    if tensors.kind(tensor) in UNEVEN:
        yield _plain_tensor(tensor, path).raw_data
    else:
        yield from tensors.pieces(tensor, path)


def _around(message: Any, number: int, without: tuple[str, ...], path: Path) -> tuple[bytes, bytes]:
    """The fields before and those behind a number, serialised, with only what counts in them."""
    parts = (
        _part(message, without, number.__gt__),
        _part(message, without, number.__lt__),
    )
    for part in parts:
        _plain(part, path)
    first, last = (part.SerializeToString(deterministic=True) for part in parts)
    return first, last


def _part(message: Any, without: tuple[str, ...], wanted: Callable[[int], bool]) -> Any:
    made = type(message)()
    for field, value in message.ListFields():
        if field.name in without or not wanted(field.number):
            continue
        if hasattr(value, "extend"):
            getattr(made, field.name).extend(value)
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(value)
        else:
            setattr(made, field.name, value)
    return made


def _plain(part: Any, path: Path) -> None:
    """Without what is cosmetic in any part of it; graphs nest deeper than Python's calls may."""
    import onnx
    from google.protobuf.message import Message

    left = [part]
    while left:
        one = left.pop()
        _clear(one, COSMETIC)
        if isinstance(one, onnx.TensorProto):
            one.CopyFrom(_plain_tensor(one, path))
            continue
        for field, value in one.ListFields():
            if field.message_type is not None:
                left += [value] if isinstance(value, Message) else value


def _plain_tensor(tensor: Any, path: Path) -> Any:
    """The same values, typed fields and raw bytes of equal content as the same bytes."""
    import onnx

    made = onnx.TensorProto()
    made.CopyFrom(tensor)
    _clear(made, COSMETIC)
    if tensor.data_type != tensors.STRING:
        if tensors.beside(tensor):
            made.raw_data = tensors.read(tensor, path)
            _clear(made, ("data_location", "external_data"))
        made.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(made)))
    made.name = tensor.name
    return made


def _clear(message: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)


def _tag(number: int) -> bytes:
    """Of a field with a length (wire type 2)."""
    return _varint(number << 3 | 2)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth set."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*made, number))
