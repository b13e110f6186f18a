"""A model's tensors: how many bytes each should have, where they lie, and reading them in pieces.

Data beside a model is jailed: a plain file below the model's folder, and large enough. Links are
refused, hard ones too, as onnx does since 1.21 (CVE-2026-27489, -34446): they may lead to anyone's file.
"""

from __future__ import annotations

import functools
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from accel.errors import BadModel
from accel.plain import shown

PIECE_BYTES = 4 << 20  # read at once
BITS = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}  # numpy gives each a byte
PAIRED = ("COMPLEX64", "COMPLEX128")  # two numbers an element
TYPED = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
LONGEST = 4096  # of a path (Linux, PATH_MAX)
MOST_AXES = 64  # numpy's own
MOST_ELEMENTS = 1 << 60  # of axes beside one of 0: numpy counts their bytes with an int64
EXTERNAL, STRING = 1, 8  # of onnx.TensorProto's DataLocation and DataType


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes lie: in a file that was looked at, and holds them all."""

    path: Path
    offset: int
    length: int


def every(proto: Any) -> Iterator[Any]:
    """Every tensor that a model holds: in its functions and subgraphs too."""
    for part in (proto.graph, *proto.functions):
        yield from within(part)


def within(part: Any) -> Iterator[Any]:
    """Every tensor that a graph or a function holds, in its subgraphs too."""
    yield from getattr(part, "initializer", ())
    for sparse in getattr(part, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for attribute in (a for node in part.node for a in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in sparse_of(attribute):
            yield from (sparse.values, sparse.indices)
        for inner in bodies(attribute):
            yield from within(inner)


def bodies(attribute: Any) -> tuple[Any, ...]:
    """The subgraphs that an attribute holds."""
    return (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs)


def sparse_of(attribute: Any) -> tuple[Any, ...]:
    """The sparse tensors that an attribute holds."""
    alone = (attribute.sparse_tensor,) if attribute.HasField("sparse_tensor") else ()
    return (*alone, *attribute.sparse_tensors)


def beside(tensor: Any) -> bool:
    """Do its values lie in another file?"""
    return bool(tensor.data_location == EXTERNAL)


def kind(tensor: Any) -> str:
    """ONNX's name of its data type, "FLOAT16"; empty for a number that ONNX has not."""
    return _name(tensor.data_type)


@functools.cache  # there are a hundred thousand tensors, and two dozen types
def _name(data_type: int) -> str:
    import onnx

    known = onnx.TensorProto.DataType
    return str(known.Name(data_type)) if data_type in known.values() else ""


@functools.cache
def _bits(data_type: int) -> int:
    import onnx

    own = BITS.get(_name(data_type))
    return own or 8 * int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def count(tensor: Any) -> int:
    """Elements."""
    total = 1
    for size in tensor.dims:
        total *= size
    return total


def size(tensor: Any) -> int:
    """Bytes that its shape and type ask for; 0 for texts, whose length they do not tell."""
    if tensor.data_type == STRING:
        return 0
    return (count(tensor) * _bits(tensor.data_type) + 7) // 8


def trouble(tensor: Any) -> str:
    """Why its shape, its type and what it holds cannot all be true; empty where they can."""
    name = tensor.name or "a constant"
    if len(tensor.dims) > MOST_AXES:
        return f"{name} has {len(tensor.dims)} axes; {MOST_AXES} are the most"
    if not kind(tensor) or not tensor.data_type:
        return f"{name} is of the data type {tensor.data_type}"
    if any(n < 0 for n in tensor.dims):
        return f"{name} has a size below 0: {list(tensor.dims)}"
    if 0 in tensor.dims and math.prod(n for n in tensor.dims if n) > MOST_ELEMENTS:
        return f"{name} has no elements, and axes that no array has: {list(tensor.dims)}"
    if tensor.HasField("segment"):
        return f"{name} is one segment of a tensor, which no runtime reads"
    if beside(tensor):
        texts = f"{name} is of texts, and they lie in another file"
        return texts if tensor.data_type == STRING else ""
    used = [field.name for field, _ in tensor.ListFields() if field.name in TYPED]
    if tensor.HasField("raw_data") and used:
        return f"{name} is given twice, as bytes and as values"
    if elsewhere := [field for field in used if field != _field(tensor.data_type)]:
        return f"{name} is of {kind(tensor)}, and holds values as {elsewhere[0]}"
    wanted, held = _wanted(tensor), _held(tensor)
    if wanted == held:
        return ""
    return f"{name} is {list(tensor.dims)} of {kind(tensor)}: {wanted}, but it holds {held}"


@functools.cache
def _field(data_type: int) -> str:
    """Where values of a type stand that are not given as bytes."""
    import onnx

    return str(onnx.helper.tensor_dtype_to_field(data_type))


def _held(tensor: Any) -> str:
    if tensor.HasField("raw_data"):
        return f"{len(tensor.raw_data)} bytes"
    return f"{sum(len(getattr(tensor, field)) for field in TYPED)} values"


def _wanted(tensor: Any) -> str:
    if tensor.HasField("raw_data"):
        return f"{size(tensor)} bytes"
    packed, pairs = kind(tensor) in BITS, kind(tensor) in PAIRED
    return f"{size(tensor) if packed else count(tensor) * (1 + pairs)} values"


def place(tensor: Any, model: Path) -> Place:
    """Where the values of a tensor lie that are not in the model's own file.

    Raises BadModel for a place outside of its folder, a link, and a file that lacks some of them."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    name, own = told.get("location", ""), shown(tensor.name, keep="")
    if len(name) > LONGEST or "\0" in name:
        raise BadModel(
            f"{model} keeps its weights in {name[:20]!r}..., which no file can be called."
        )
    path = model.parent / name
    held = _length(path, name, model)
    offset, length = (_whole(told.get(key), key, model) for key in ("offset", "length"))
    wanted = size(tensor)
    if length not in (None, wanted):
        raise BadModel(
            f"{model} is damaged: {own} is {list(tensor.dims)} of {kind(tensor)}: {wanted} "
            f"bytes, but {length} of {name!r} are said to hold it."
        )
    if (offset or 0) + wanted > held:
        raise BadModel(
            f"{model} keeps {own} in bytes {offset or 0} to {(offset or 0) + wanted} of "
            f"{name!r}, which has {held}. Copy that file again."
        )
    return Place(path, offset or 0, wanted)


def _length(path: Path, name: str, model: Path) -> int:
    """Of a file that may be read. Raises BadModel for one that may not."""
    try:
        inside = path.resolve().is_relative_to(model.parent.resolve())
        there = path.exists()
    except (OSError, RuntimeError):  # a name too long for the disk, links that go in a circle
        raise BadModel(
            f"{model} keeps its weights in {name[:60]!r}, which cannot be looked at."
        ) from None
    climbs = Path(name).is_absolute() or ".." in Path(name).parts  # elsewhere it may lead elsewhere
    if not name or climbs or not inside:
        raise BadModel(f"{model} keeps its weights outside its folder, at {name!r}.")
    if not there:
        raise BadModel(f"{model} keeps its weights in {name!r}, which is not beside it.")
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        what = "has other names (hard links)" if stat.S_ISREG(found.st_mode) else "is no plain file"
        raise BadModel(
            f"{model} keeps its weights in {name!r}, which {what}: it may be any file. If it is "
            f"the right one, put a copy in its place."
        )
    return found.st_size


def _whole(text: str | None, key: str, model: Path) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not text.isascii() or len(text) > 19:
        raise BadModel(f"{model} is damaged: the {key} of a tensor is {text[:20]!r}, not a number.")
    return int(text)


def pieces(tensor: Any, model: Path) -> Iterator[bytes]:
    """Its values as ONNX lays them out, a part of them in memory at any time where they lie beside."""
    import onnx

    if not beside(tensor):
        yield tensor.raw_data or onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)).raw_data  # fmt: skip
        return
    found = place(tensor, model)
    with _opened(found) as stream:
        left = found.length
        while left:
            piece = stream.read(min(left, PIECE_BYTES))
            if not piece:
                raise BadModel(f"{found.path} became shorter while it was read.")
            left -= len(piece)
            yield piece


def read(tensor: Any, model: Path) -> bytes:
    """The same at once."""
    if not beside(tensor):
        return b"".join(pieces(tensor, model))
    found = place(tensor, model)
    with _opened(found) as stream:
        return stream.read(found.length)


def _opened(found: Place) -> IO[bytes]:
    """A link that took the file's place since it was looked at is refused here."""
    stream = os.fdopen(os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    stream.seek(found.offset)
    return stream


def fetch(proto: Any, model: Path) -> None:
    """Put every value that lies beside into the model itself.

    Raises BadModel like `place`."""
    for tensor in every(proto):
        if beside(tensor):
            tensor.raw_data = read(tensor, model)
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
