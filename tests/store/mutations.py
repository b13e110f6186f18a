"""Every edit that one step away from a graph there is: each field of each part of its protobuf, changed alone.

Nothing here knows what a field means. What is cosmetic is said in one place, as DESIGN says it: doc
strings, metadata, and who produced the model. How a tensor's content is stored is tried apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

Path = tuple[tuple[str, int | None], ...]  # (field, index in it) from the model downwards
EVERYWHERE = {"doc_string", "metadata_props"}
OF_A_MODEL = {"producer_name", "producer_version", "domain"}
STORED = {"raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"}  # fmt: skip
LAYOUT = {"external_data", "data_location", "segment"}  # resolved, or refused, when a file is read


@dataclass(frozen=True)
class Mutation:
    """One edit: where, of which kind, and whether DESIGN calls it cosmetic."""

    name: str
    cosmetic: bool
    apply: Callable[[Any], None]  # on a copy of the model


def mutations(model: Any) -> Iterator[Mutation]:
    """All of a model's."""
    for path, part in parts(model):
        for field in part.DESCRIPTOR.fields:
            yield from _of_field(path, part, field)


def parts(message: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every message below one, itself included."""
    yield path, message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if isinstance(value, Message):
            yield from parts(value, (*path, (field.name, None)))
        else:
            for i, one in enumerate(value):
                yield from parts(one, (*path, (field.name, i)))


def at(model: Any, path: Path) -> Any:
    """The part that a path leads to."""
    for name, index in path:
        model = getattr(model, name) if index is None else getattr(model, name)[index]
    return model


def _cosmetic(path: Path, part: Any, name: str) -> bool:
    inside = {step for step, _ in path} | {name}
    made_by = isinstance(part, onnx.ModelProto) and name in OF_A_MODEL
    return bool(inside & EVERYWHERE) or made_by


def _of_field(path: Path, part: Any, field: Any) -> Iterator[Mutation]:
    if isinstance(part, TensorProto):
        there = {f.name for f, _ in part.ListFields()}
        if field.name in LAYOUT or (field.name in STORED and field.name not in there):
            return
    place = "/".join(f"{n}[{i}]" if i is not None else n for n, i in (*path, (field.name, None)))
    cosmetic = _cosmetic(path, part, field.name)
    for kind, edit in _edits(part, field):
        if field.name in STORED and kind == "append to":
            continue  # behind what the shape takes: nobody reads it
        yield Mutation(f"{kind} {place}", cosmetic, _applied(path, field.name, edit))


def _applied(path: Path, name: str, edit: Callable[[Any, str], None]) -> Callable[[Any], None]:
    return lambda model: edit(at(model, path), name)


def _edits(part: Any, field: Any) -> Iterator[tuple[str, Callable[[Any, str], None]]]:
    repeated = field.is_repeated
    if field.message_type is not None:
        yield from _of_messages(part, field) if repeated else _of_message(part, field)
    elif repeated:
        yield from _of_list(part, field)
    elif field.name == "raw_data":
        data = part.raw_data
        for i in range(len(data)):
            yield f"flip byte {i} of", _set(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
    else:
        yield "change", _set(other(field, getattr(part, field.name)))


def _set(value: Any) -> Callable[[Any, str], None]:
    return lambda part, name: setattr(part, name, value)


def other(field: Any, value: Any) -> Any:
    """Another value that the field may hold."""
    if field.enum_type is not None:
        numbers = [v.number for v in field.enum_type.values]
        return numbers[(numbers.index(value) + 1) % len(numbers)]
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"x"
    return value + 1


def _of_message(part: Any, field: Any) -> Iterator[tuple[str, Callable[[Any, str], None]]]:
    if part.HasField(field.name):
        yield "clear", lambda p, name: p.ClearField(name)
    else:
        yield "add", lambda p, name: getattr(p, name).SetInParent()


def _of_messages(part: Any, field: Any) -> Iterator[tuple[str, Callable[[Any, str], None]]]:
    held = getattr(part, field.name)
    yield "append to", lambda p, name: getattr(p, name).add()
    for i, one in enumerate(held):
        yield f"remove {i} of", _removed(i)
        if i and one != held[i - 1]:
            yield f"swap {i} of", _swapped(i)


def _of_list(part: Any, field: Any) -> Iterator[tuple[str, Callable[[Any, str], None]]]:
    held = list(getattr(part, field.name))
    yield "append to", lambda p, name: getattr(p, name).append(_blank(field))
    for i, value in enumerate(held):
        yield f"remove {i} of", _removed(i)
        yield f"change {i} of", _changed(i, other(field, value))
        if i and value != held[i - 1]:
            yield f"swap {i} of", _swapped(i)


def _blank(field: Any) -> Any:
    kinds = {field.CPPTYPE_STRING: b"x" if field.type == field.TYPE_BYTES else "x"}
    return kinds.get(field.cpp_type, 0)


def _removed(i: int) -> Callable[[Any, str], None]:
    def edit(part: Any, name: str) -> None:
        del getattr(part, name)[i]

    return edit


def _changed(i: int, value: Any) -> Callable[[Any, str], None]:
    def edit(part: Any, name: str) -> None:
        getattr(part, name)[i] = value

    return edit


def _swapped(i: int) -> Callable[[Any, str], None]:
    def edit(part: Any, name: str) -> None:
        held = list(getattr(part, name))
        held[i - 1], held[i] = held[i], held[i - 1]
        part.ClearField(name)
        getattr(part, name).extend(held)

    return edit


def rich() -> Any:
    """A graph with a part of every kind that ONNX has: subgraphs, a function, sparse tensors, notes."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["h", "k"], ["t"], name="inner")],
        "then",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.array([2.0], np.float32), "k")],
    )
    otherwise = helper.make_graph(
        [helper.make_node("Identity", ["h"], ["t"])],
        "else",
        [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["batch", 3])],
    )
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("at", TensorProto.INT64, [2], [0, 4]),
        [3, 3],
    )
    nodes = [
        helper.make_node("Gemm", ["x", "w", "c"], ["p"], name="product", alpha=0.5, transB=1),
        helper.make_node("Clip", ["p", "low", "high"], ["h"], name="clip"),
        helper.make_node("If", ["yes"], ["q"], then_branch=inner, else_branch=otherwise),
        helper.make_node("scaled", ["q"], ["r"], domain="own", by=3.0, name="call"),
        helper.make_node("Constant", [], ["names"], value_strings=["a", "b"]),
        helper.make_node("Constant", [], ["held"], sparse_value=sparse),
        helper.make_node("Transpose", ["r"], ["y"], perm=[1, 0]),
        helper.make_node(
            "odd", ["r"], ["z"], domain="own", word="a", ends=[0.5, 1.5], kept=sparse.values,
            many=[sparse.values, sparse.indices], kind=helper.make_tensor_type_proto(1, ["n"]),
        ),
    ]  # fmt: skip
    draw = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(draw.normal(size=(3, 2)).astype(np.float32), "w"),
        helper.make_tensor("c", TensorProto.FLOAT, [3], [0.1, 0.2, 0.3]),
        helper.make_tensor("low", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("high", TensorProto.FLOAT, [], [6.0]),
        helper.make_tensor("words", TensorProto.STRING, [2], [b"one", b"two"]),
        helper.make_tensor("nibbles", TensorProto.INT4, [3], [1, -2, 7]),
        helper.make_tensor("brains", TensorProto.BFLOAT16, [2], [1.5, -2.0]),
        helper.make_tensor("counts", TensorProto.INT64, [2], [5, -6]),
    ]
    graph = helper.make_graph(
        nodes,
        "rich",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("yes", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, "batch"]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, None),
        ],
        tensors,
        doc_string="a graph",
        value_info=[
            helper.make_tensor_value_info("p", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, [2]),
        ],
        sparse_initializer=[sparse],
    )
    note = onnx.TensorAnnotation(tensor_name="p")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="high")
    graph.quantization_annotation.append(note)
    body = [
        helper.make_node("Constant", [], ["f"], value_float=2.0),
        helper.make_node("Mul", ["v", "f"], ["o"]),
    ]
    body[0].attribute[0].ref_attr_name = "by"
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    function = helper.make_function(
        "own", "scaled", ["v"], ["o"], body, opsets[:1], attributes=["by"],
        attribute_protos=[helper.make_attribute("more", 1.0)],
    )  # fmt: skip
    made = helper.make_model(
        graph, opset_imports=opsets, functions=[function], ir_version=10, producer_name="us"
    )
    made.metadata_props.add(key="author", value="me")
    return made
