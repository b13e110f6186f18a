"""Faults that change a graph: channels of another size, a value in float16, sums that saturate.

As in plant.py, which lists them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from case import Case, Draw, Fault, array, copy, replace
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# sums of two products in int16, in place of a product: [.., K/2, 2, 1] x [K/2, 2, N]
SATURATED = """saturated (quantized) => (out) {
  u8 = Cast <to = 1> (quantized)
  paired = Reshape (u8, shape)
  products = Mul (paired, pairs)
  sums = ReduceSum <keepdims = 0> (products, two)
  clipped = Clip (sums, low, high)
  total = ReduceSum <keepdims = 0> (clipped, two)
  centred = Sub (total, zero)
  scaled = Mul (centred, scale)
  rows = Reshape (scaled, flat)
  out = Add (rows, bias)
}"""


def outlier_channel(case: Case, draw: Draw, severity: float) -> Fault | None:
    """A channel 16 to 4,096 times larger than it was, by weights that give the same function."""
    pair = _between(case.reference, draw)
    if pair is None:
        return None
    first, second, value = pair
    made = copy(case.reference)
    channel = int(draw.integers(_channels(made, first)))
    _scale_channel(made, first, second, channel, 2.0 ** (4 + 8 * severity))
    return Fault(made, case.quantize(made, case.calibration), (value,))


def fp16_overflow(case: Case, draw: Draw, severity: float) -> Fault | None:
    """A value in float16 that reaches beyond its end on some inputs; the rest of the net is float32."""
    pair = _between(case.reference, draw)
    if pair is None:
        return None
    first, second, value = pair
    made = copy(case.reference)
    largest = np.abs(_run(made, case.calibration, value)).max()
    by = 65504 / largest * 2.0 ** (2 * severity - 0.5)
    for channel in range(_channels(made, first)):
        _scale_channel(made, first, second, channel, by)
    half = copy(made)
    casts = [
        helper.make_node("Cast", [value], [f"{value}_half"], f"{value}_to_half", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{value}_half"], [f"{value}_back"], f"{value}_from_half", to=TensorProto.FLOAT),
    ]  # fmt: skip
    at = next(i for i, n in enumerate(half.graph.node) if value in n.output)
    after = [n.output[0] for n in half.graph.node if value in n.input]
    for node in half.graph.node:
        node.input[:] = [f"{value}_back" if n == value else n for n in node.input]
    for cast in reversed(casts):
        half.graph.node.insert(at + 1, cast)
    return Fault(made, half, (value, *after))


def pair_saturation(case: Case, draw: Draw, severity: float) -> Fault | None:
    """Sums of two uint8 x int8 products in int16, as on a processor without VNNI, computed so in the graph.

    `severity` makes activations reach further into their range, as a clipping calibration does."""
    known = {t.name for t in case.base.graph.initializer}
    found = [
        n
        for n in case.base.graph.node
        if n.op_type in ("Gemm", "MatMul") and _plain(case, n, known)
    ]
    if not found:
        return None
    made = copy(case.base)
    node = found[draw.integers(len(found))]
    source = node.input[0].removesuffix("_DequantizeLinear_Output")
    replace(
        made,
        f"{source}_scale",
        (array(made, f"{source}_scale") / (1 + 2 * severity)).astype(np.float32),
    )
    _saturate(made, node, source)
    return Fault(case.reference, made, (node.output[0], source))


def _between(reference: Any, draw: Draw) -> tuple[Any, Any, str] | None:
    """Two products with a ReLU between them, which lets a channel's scale pass, and its output."""
    nodes, pairs = reference.graph.node, []
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in nodes:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        after = readers.get(node.output[0], [])
        if len(after) != 1 or after[0].op_type != "Relu":
            continue
        last = readers.get(after[0].output[0], [])
        groups = [a.i for n in last for a in n.attribute if a.name == "group" and a.i > 1]
        if len(last) == 1 and last[0].op_type == node.op_type and not groups:
            pairs.append((node, last[0], after[0].output[0]))
    return pairs[draw.integers(len(pairs))] if pairs else None


def _out_axis(node: Any) -> int:
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or turned else 1


def _channels(proto: Any, first: Any) -> int:
    return int(array(proto, first.input[1]).shape[_out_axis(first)])


def _scale_channel(proto: Any, first: Any, second: Any, channel: int, by: float) -> None:
    for node, factor, axis in (
        (first, by, _out_axis(first)),
        (second, 1 / by, 1 - _out_axis(second)),
    ):
        weight = array(proto, node.input[1]).copy()
        index: list[Any] = [slice(None)] * weight.ndim
        index[axis] = channel
        weight[tuple(index)] *= factor
        replace(proto, node.input[1], weight)
    if len(first.input) > 2:
        bias = array(proto, first.input[2]).copy()
        bias[channel] *= by
        replace(proto, first.input[2], bias)


def _run(proto: Any, x: NDArray[Any], value: str) -> NDArray[Any]:
    import onnxruntime

    made = copy(proto)
    made.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(made.SerializeToString())
    found: NDArray[Any] = session.run([value], {"x": x})[0]
    return found


def _plain(case: Case, node: Any, known: set[str]) -> bool:
    """A product of a pair's value and an int8 weight whose rows are even in number."""
    source = node.input[0].removesuffix("_DequantizeLinear_Output")
    weight = node.input[1].removesuffix("_DequantizeLinear_Output")
    if f"{source}_scale" not in known or f"{weight}_quantized" not in known:
        return False
    shape = array(case.base, f"{weight}_quantized").shape
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return len(shape) == 2 and shape[1 if turned else 0] % 2 == 0


def _saturate(made: Any, node: Any, source: str) -> None:
    """Put SATURATED in the place of a product of `source`'s pair and an int8 weight."""
    weight = node.input[1].removesuffix("_DequantizeLinear_Output")
    whole = array(made, f"{weight}_quantized").astype(np.float32)  # [K, N], or [N, K]
    if any(a.name == "transB" and a.i for a in node.attribute):
        whole = whole.T
    k, n = whole.shape
    scale = array(made, f"{weight}_scale") * array(made, f"{source}_scale")
    rows = node.op_type == "Gemm"  # [N, K]; a MatMul's may have an axis more
    constants = {
        "pairs": whole.reshape(k // 2, 2, n),
        "shape": np.asarray([-1, k // 2, 2, 1] if rows else [0, -1, k // 2, 2, 1], np.int64),
        "flat": np.asarray([-1, n] if rows else [0, -1, n], np.int64),
        "two": np.asarray([-2], np.int64),
        "low": np.float32(-32768),
        "high": np.float32(32767),
        "scale": scale.astype(np.float32),
        "zero": np.float32(array(made, f"{source}_zero_point")) * whole.sum(axis=0),
        "bias": np.zeros(n, np.float32),
    }
    mark = f"{node.output[0]}__saturated_"
    names = {"quantized": f"{source}_QuantizeLinear_Output", "out": node.output[0]}
    if len(node.input) > 2:
        names["bias"] = node.input[2]
    for key, values in constants.items():
        if key not in names:
            made.graph.initializer.append(numpy_helper.from_array(np.asarray(values), mark + key))
    body = onnx.parser.parse_graph(SATURATED)
    for one in body.node:
        one.input[:] = [names.get(i, mark + i) for i in one.input]
        one.output[:] = [names.get(o, mark + o) for o in one.output]
        one.name = f"{one.output[0]}_node"
    at = next(i for i, other in enumerate(made.graph.node) if node.output[0] in other.output)
    del made.graph.node[at]
    for one in reversed(body.node):
        made.graph.node.insert(at, one)
