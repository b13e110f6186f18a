"""Two graphs of one model, the reference and what was made of it, and which of their values are one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from accel import shapes
from accel.qdq import order

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
HALF_FORM = "__half"  # what accel's 16-bit recipes call a value's second form
SMOOTH = "__smooth"  # and its scale migration an activation that it divided
HALVES = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


@dataclass(frozen=True)
class View:
    """One graph, with who makes what."""

    proto: Any

    @cached_property
    def makers(self) -> Mapping[str, int]:
        """Value -> the index of its node."""
        return {o: i for i, n in enumerate(self.proto.graph.node) for o in n.output if o}

    @cached_property
    def readers(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Value -> (node, input slot) that read it."""
        found: dict[str, list[tuple[int, int]]] = {}
        for i, node in enumerate(self.proto.graph.node):
            for slot, name in enumerate(node.input):
                found.setdefault(name, []).append((i, slot))
        return {name: tuple(readers) for name, readers in found.items()}

    @cached_property
    def constants(self) -> Mapping[str, Any]:
        """Name -> TensorProto: initializers, and values of Constant nodes."""
        found = {t.name: t for t in self.proto.graph.initializer}
        for node in self.proto.graph.node:
            if _is(node, "Constant") and node.attribute and node.attribute[0].name == "value":
                found[node.output[0]] = node.attribute[0].t
        return found

    @cached_property
    def dtypes(self) -> Mapping[str, int]:
        """Value -> ONNX's number of its type, where it could be found."""
        known = shapes.infer(self.proto).graph
        values = (*known.value_info, *known.input, *known.output)
        found = {v.name: int(v.type.tensor_type.elem_type) for v in values}
        return found | {n: int(t.data_type) for n, t in self.constants.items()}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """What a caller gives."""
        fixed = {t.name for t in self.proto.graph.initializer}
        return tuple(v.name for v in self.proto.graph.input if v.name not in fixed)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """What a caller gets."""
        return tuple(v.name for v in self.proto.graph.output)

    @cached_property
    def opset(self) -> int:
        """Of the standard operators."""
        found = (o.version for o in self.proto.opset_import if o.domain in ("", "ai.onnx"))
        return max(map(int, found), default=1)

    def node(self, value: str) -> Any | None:
        """The node that makes a value."""
        return self.proto.graph.node[self.makers[value]] if value in self.makers else None

    def array(self, name: str) -> NDArray[Any] | None:
        """A constant as a node computes with it: dequantized, or rounded by a pair; else None."""
        if name in self.constants:
            found: NDArray[Any] = numpy_helper.to_array(self.constants[name])
            return found
        node = self.node(name)
        if node is None or not order.rounds(node, DEQUANTIZE):
            return None
        before = self.node(node.input[0])
        if before is not None and order.rounds(before, QUANTIZE):
            return self._rounded(before)
        return self._dequantized(node)

    def pair(self, node: Any) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Scale and zero point of a Q or DQ; None where they are computed."""
        if node.input[1] not in self.constants:
            return None
        scale = numpy_helper.to_array(self.constants[node.input[1]])
        name = node.input[2] if len(node.input) > 2 else ""
        if not name:
            return scale, np.zeros(scale.shape, _left_out(node))
        if name not in self.constants:
            return None
        return scale, numpy_helper.to_array(self.constants[name])

    def _dequantized(self, node: Any) -> NDArray[Any] | None:
        found = self.pair(node)
        if found is None or node.input[0] not in self.constants:
            return None  # computed
        quantized = numpy_helper.to_array(self.constants[node.input[0]])
        scale, zero = (_along(x, quantized, node) for x in found)
        if scale is None or zero is None:
            return None
        back: NDArray[Any] = (quantized.astype(np.float32) - zero.astype(np.float32)) * scale
        return back

    def _rounded(self, node: Any) -> NDArray[Any] | None:
        found = self.pair(node)
        if found is None or node.input[0] not in self.constants or found[0].ndim > 1:
            return None
        if found[1].dtype.kind not in "iu":
            return None  # float8 has no steps
        weight = numpy_helper.to_array(self.constants[node.input[0]])
        kind = np.iinfo(found[1].dtype)
        scale, zero = (_along(x, weight, node) for x in found)
        if scale is None or zero is None:
            return None
        whole = np.clip(np.round(weight / scale) + zero, kind.min, kind.max)
        back: NDArray[Any] = ((whole - zero) * scale).astype(np.float32)
        return back


def _is(node: Any, operator: str) -> bool:
    """Another domain's may have the name, and neither inputs nor outputs."""
    return bool(node.op_type == operator and node.domain in ("", "ai.onnx"))


def _left_out(node: Any) -> Any:
    """The type of a zero point that a Q does without: what it makes (of a DQ, `output_dtype` is the float)."""
    made = (a.i for a in node.attribute if a.name == "output_dtype" and node.op_type == QUANTIZE)
    return helper.tensor_dtype_to_np_dtype(next(made, 0) or TensorProto.UINT8)


def _along(values: NDArray[Any], whole: NDArray[Any], node: Any) -> NDArray[Any] | None:
    """One for all, or shaped to lie along the node's axis, in blocks of it where it has some; None where
    they do not fit, which is for ONNX Runtime to tell."""
    options = {a.name: a.i for a in node.attribute}
    if values.ndim > 1 and options.get("block_size"):
        if values.ndim != whole.ndim:
            return None
        axis = options.get("axis", 1) % whole.ndim
        wide = values.repeat(options["block_size"], axis)
        cut: NDArray[Any] = wide[(slice(None),) * axis + (slice(whole.shape[axis]),)]
        return cut if cut.shape == whole.shape else None
    if values.size == 1 or not whole.ndim:
        return values.reshape(-1)[:1].reshape(()) if values.size == 1 else values
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1) % whole.ndim
    if values.size != whole.shape[axis]:
        return None
    return values.reshape([-1 if i == axis else 1 for i in range(whole.ndim)])


def aligned(reference: View, candidate: View) -> dict[str, str]:
    """Value of the reference -> the candidate's name of it: the same, that of its 16-bit form, or, of an
    output that is quantized, what goes into that pair."""
    found = {}
    for name in (*reference.inputs, *reference.makers):
        half, up = f"{name}{HALF_FORM}", candidate.node(name)
        cast = up is not None and _is(up, "Cast") and up.input[0] == half
        own = half in candidate.makers and half not in reference.makers
        if own and (up is None or cast):
            found[name] = half
        elif name in candidate.makers or name in candidate.inputs:
            found[name] = name
    for name in reference.outputs:
        source = quantized_from(candidate, name)
        if source in candidate.makers and source not in reference.makers:
            found[name] = source
    return found


def quantized_from(view: View, value: str) -> str:
    """What a DQ(Q(v)) that makes this value rounds: v; empty where it is no such pair."""
    back = view.node(value)
    if back is None or not order.rounds(back, DEQUANTIZE):
        return ""
    there = view.node(back.input[0])
    return str(there.input[0]) if there is not None and order.rounds(there, QUANTIZE) else ""


def between(view: View, value: str, stops: Collection[str]) -> tuple[list[int], list[str]]:
    """Nodes that lead to a value from the nearest stops, in order, and these stops."""
    left, nodes, met = [value], set(), []
    while left:
        name = left.pop()
        index = view.makers.get(name)
        if index is None or index in nodes:
            continue
        nodes.add(index)
        for source in order.reads(view.proto.graph.node[index]):
            if source in stops and source != value:
                met.append(source)
            elif source:
                left.append(source)
    return sorted(nodes), list(dict.fromkeys(met))
