"""Sizes of a graph's values as far as they can be known: numbers, symbols, or None.

onnx's own inference, and what it leaves open where position ids are cut to the input's length:

    Slice(x, 0, size of an axis) -> Min(512, sequence)     and     sequence + Min(512, sequence) -> sequence
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from accel import tensors
from accel.errors import BadModel
from accel.plain import flat

Sizes = tuple[int | str | None, ...]
HEAVY = 256  # elements of a weight whose values no shape depends on
COPIES = 50_000_000  # of a value's type that are made at most: some seconds
PASSES = 4  # a size that was found lets onnx go on to the next one that it leaves open
ELEMENTWISE = ("Add", "Sub", "Mul", "Div")
SAME_VALUE = ("Unsqueeze", "Squeeze", "Cast", "Identity", "Reshape")  # of a tensor with one element


def inferred(proto: Any, data_prop: bool = False) -> Any:
    """The model with what onnx's own inference finds. Raises BadModel where that gives it up."""
    import onnx

    refusals = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError)
    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=data_prop)
    except (*refusals, RuntimeError, ValueError) as error:
        raise BadModel(f"The model's sizes cannot be inferred: {flat(error)}") from None


def infer(proto: Any) -> Any:
    """A copy of the model with every size noted that could be found, in its subgraphs too.

    Raises BadModel like `inferred`."""
    import onnx

    light = lightened(proto)
    known = {v.name for v in light.graph.value_info}
    for _ in range(PASSES):
        found = inferred(light, data_prop=True)
        kinds = {v.name: v.type.tensor_type.elem_type for v in found.graph.value_info}
        more = {n: s for n, s in _left_open(found) if n in kinds and n not in known}
        if not more:
            break
        light.graph.value_info.extend(
            onnx.helper.make_tensor_value_info(n, kinds[n], s) for n, s in more.items()
        )
        known |= set(more)
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for name in ("node", "value_info"):
        made.graph.ClearField(name)
        getattr(made.graph, name).extend(getattr(found.graph, name))
    return made


def contradictions(proto: Any) -> Iterator[str]:
    """Types that are declared where the nodes, or the weights, give others."""
    import onnx

    light = lightened(proto)
    light.graph.ClearField("value_info")
    for value in light.graph.output:
        value.ClearField("type")
    given = {t.name: t.data_type for t in proto.graph.initializer}
    try:
        found = light.graph if _costly(light) else inferred(light).graph
    except BadModel:
        found = light.graph  # a weight's types differ: what follows from it cannot be told
    given |= {v.name: _kind(v) for v in (*found.value_info, *found.output)}
    for value in (*proto.graph.value_info, *proto.graph.output, *proto.graph.input):
        seen = given.get(value.name, 0)
        if _kind(value) and seen and seen != _kind(value):
            known = {number: name for name, number in onnx.TensorProto.DataType.items()}
            declared, is_ = (known.get(kind, f"type {kind}") for kind in (_kind(value), seen))
            yield f"{value.name} is declared {declared}, and is {is_}"


def _costly(light: Any) -> bool:
    """onnx hands a copy of all the types of a graph to each branch of it."""
    nodes = light.graph.node
    branches = sum(len(tensors.bodies(a)) for node in nodes for a in node.attribute)
    return branches * (len(light.graph.initializer) + len(light.graph.input) + len(nodes)) > COPIES


def _kind(value: Any) -> int:
    return int(value.type.tensor_type.elem_type)


def repeats(part: Sizes, whole: Sizes) -> bool:
    """Is `part` equal to `whole`, or does it repeat over leading axes of it, when their sum is taken?"""
    if len(part) > len(whole):
        return False
    ends = list(zip(part, whole[len(whole) - len(part) :], strict=True))
    while ends and ends[0][0] == 1:
        ends.pop(0)
    return all(_same(a, b) for a, b in ends)


def text(sizes: Sizes | None) -> str:
    """[batch, ?, 384]."""
    if sizes is None:
        return "of unknown rank"
    return f"[{', '.join('?' if s is None else str(s) for s in sizes)}]"


def _same(a: int | str | None, b: int | str | None) -> bool:
    """A sum of two axes demands that they are equal or one of them is 1. Of n >= 2 and b, the
    smaller is 1 only where b is 1 itself: so the two are equal wherever the sum is defined."""
    return a is not None and (a == b or _cut(a, b))


def _cut(a: int | str | None, b: int | str | None) -> bool:
    """Is a "Min(n, b)", n >= 2? The form in which torch's exporter writes it too."""
    start, comma, end = str(a).removeprefix("Min(").partition(", ")
    return bool(comma) and end == f"{b})" and start.isdigit() and int(start) > 1


def lightened(proto: Any) -> Any:
    """The model without its heavy weights, which become inputs: there is one copy of them less."""
    import onnx

    made = onnx.ModelProto()
    made.ir_version = proto.ir_version
    made.opset_import.extend(proto.opset_import)
    made.functions.extend(proto.functions)
    made.graph.name = proto.graph.name
    for name in ("node", "input", "output", "value_info"):
        getattr(made.graph, name).extend(getattr(proto.graph, name))
    given = {v.name for v in proto.graph.input}
    for tensor in proto.graph.initializer:
        if tensors.count(tensor) <= HEAVY and not tensors.beside(tensor):
            made.graph.initializer.append(tensor)
        elif tensor.name not in given:
            made.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return made


def _left_open(proto: Any) -> Iterator[tuple[str, Sizes]]:
    """What can be said of values whose sizes onnx left open."""
    import onnx

    shapes = {v.name: _sizes(v) for v in (*proto.graph.value_info, *proto.graph.input)}
    shapes |= {t.name: tuple(t.dims) for t in proto.graph.initializer}
    nodes = [n for n in proto.graph.node if n.domain in ("", "ai.onnx")]  # others may lack inputs
    makers = {o: n for n in nodes for o in n.output if o}
    fixed = {t.name: t for t in proto.graph.initializer}
    for value in proto.graph.input:  # a caller may give another value than the initializer's
        fixed.pop(value.name, None)
    for node in nodes:
        if node.op_type == "Constant" and any(a.name == "value" for a in node.attribute[:1]):
            fixed[node.output[0]] = node.attribute[0].t
    whole = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)  # what places and sizes can be
    fixed = {n: t for n, t in fixed.items() if t.data_type in whole}
    values = {n: onnx.numpy_helper.to_array(t).ravel().tolist() for n, t in fixed.items()}
    for node in nodes:
        found = None
        if node.op_type == "Slice" and len(node.input) > 3:
            found = _sliced(node, shapes, makers, values)
        elif node.op_type in ELEMENTWISE and len(node.input) == 2:
            found = _combined(*(shapes.get(n) for n in node.input))
        if found is not None and found != shapes.get(node.output[0]):
            yield node.output[0], found


def _sizes(value: Any) -> Sizes | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return dims(kind.shape)


def dims(shape: Any) -> Sizes:
    """Of a TensorShapeProto; some exporters write -1 for an open axis."""
    return tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else (d.dim_param or None)
        for d in shape.dim
    )


def _sliced(
    node: Any, shapes: Mapping[str, Any], makers: Mapping[str, Any], values: Mapping[str, Any]
) -> Sizes | None:
    """Of Slice(x, 0, end, axis): x's, with Min(n, end) at that axis."""
    whole = shapes.get(node.input[0])
    start, axes = values.get(node.input[1]), values.get(node.input[3])
    steps = values.get(node.input[4]) if len(node.input) > 4 else [1]
    if not whole or start != [0] or steps != [1] or axes is None or len(axes) != 1:
        return None
    end, axis = _number(node.input[2], shapes, makers, values), axes[0] % len(whole)
    if end is None or not isinstance(whole[axis], int):
        return None
    return (*whole[:axis], f"Min({whole[axis]}, {end})", *whole[axis + 1 :])


def _number(
    name: str, shapes: Mapping[str, Any], makers: Mapping[str, Any], values: Mapping[str, Any]
) -> str | None:
    """The symbol that an int64 of one element stands for: an axis of some value."""
    node, seen = makers.get(name), {name}
    while node is not None and node.op_type in SAME_VALUE:
        if (name := node.input[0]) in seen:
            return None  # the graph of a rule may go round in a circle
        seen.add(name)
        node = makers.get(name)
    if node is None or node.op_type not in ("Gather", "Shape"):
        return None
    shape, at = node, None
    if node.op_type == "Gather":
        shape, at = makers.get(node.input[0]), values.get(node.input[1])
    if shape is None or shape.op_type != "Shape":
        return None
    of = shapes.get(shape.input[0])
    cut = {a.name: a.i for a in shape.attribute}
    if of is None:
        return None
    chosen = of[cut.get("start") : cut.get("end")]
    if at is not None:
        chosen = chosen[at[0] : at[0] + 1 or None] if len(at) == 1 else ()
    return chosen[0] if len(chosen) == 1 and isinstance(chosen[0], str) else None


def _combined(a: Sizes | None, b: Sizes | None) -> Sizes | None:
    """Of an elementwise operation where a size is known to be another one, cut."""
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    pairs = list(zip(a, b, strict=True))
    if not any(_cut(x, y) or _cut(y, x) for x, y in pairs):
        return None
    found = []
    for x, y in pairs:
        if x == 1 or _same(x, y):
            found.append(y)
        elif y == 1 or _same(y, x):
            found.append(x)
        else:
            return None
    return tuple(found)
