"""Faults of many kinds, planted into a quantized graph at a drawn site, as severe as asked.

Each function takes a Case and a severity in (0, 1], and gives what was planted, or None where the net has
no such site. What is planted is what goes wrong in practice: see the pains that accel/causes tells of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Draw = np.random.Generator
LEAST_CHANNELS = 4
SCALED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Case:
    """A network: in float, quantized by ONNX Runtime, and how to quantize it again."""

    name: str
    reference: Any
    base: Any
    quantize: Callable[[Any, Any], Any]  # (float graph, calibration images) -> Q/DQ graph
    calibration: NDArray[Any]


@dataclass(frozen=True)
class Fault:
    """What was planted, and where: any of these values of the reference is a hit."""

    reference: Any
    candidate: Any
    sites: tuple[str, ...]
    calibration: NDArray[Any] | None = None  # where it is the calibration data that is at fault


def clipped_range(case: Case, draw: Draw, severity: float) -> Fault | None:
    """A range of a half to a sixteenth."""
    return _rescaled(case, draw, 2.0 ** (-4 * severity))


def stale_scale(case: Case, draw: Draw, severity: float) -> Fault | None:
    """A range 8 to 512 times as wide as what passes."""
    return _rescaled(case, draw, 2.0 ** (3 + 6 * severity))


def bad_calibration_sample(case: Case, draw: Draw, severity: float) -> Fault | None:
    """One image of the calibration set was never divided by 255; it set the range of one tensor."""
    spoilt = case.calibration.copy()
    spoilt[draw.integers(len(spoilt))] *= 2.0 ** (4 + 6 * severity)
    wide = case.quantize(case.reference, spoilt)
    site = draw.choice(_activations(case))
    made = _copy(case.base)
    for end in ("scale", "zero_point"):
        _replace(made, f"{site}_{end}", _array(wide, f"{site}_{end}"))
    return Fault(case.reference, made, _sharing(case, str(site)), spoilt)


def zero_point(case: Case, draw: Draw, severity: float) -> Fault | None:
    """What is read back is shifted: another zero point than it was written with."""
    site, made = draw.choice(_activations(case)), _copy(case.base)
    name = f"{site}_zero_point"
    old = _array(made, name)
    kind = np.iinfo(old.dtype)
    by = round(2 + 60 * severity) * int(draw.choice([-1, 1]))
    moved = np.asarray(np.clip(int(old) + by, kind.min, kind.max), old.dtype)
    if moved == old:
        moved = np.asarray(np.clip(int(old) - by, kind.min, kind.max), old.dtype)
    made.graph.initializer.append(numpy_helper.from_array(moved, f"{name}_stale"))
    for node in made.graph.node:
        if node.op_type == "DequantizeLinear" and name in node.input:
            node.input[2] = f"{name}_stale"
    return Fault(case.reference, made, _sharing(case, str(site)))


def weight_scale(case: Case, draw: Draw, severity: float) -> Fault | None:
    """The scale of another checkpoint: all channels come back too large, or too small."""
    weight, value = _weight(case, draw)
    made = _copy(case.base)
    factor = 1 + 2 * severity if draw.random() < 0.5 else 1 / (1 + 3 * severity)
    _replace(made, f"{weight}_scale", (_array(made, f"{weight}_scale") * factor).astype(np.float32))
    return Fault(case.reference, made, (value,))


def swapped_axis(case: Case, draw: Draw, severity: float) -> Fault | None:
    """Scales that were computed along the other axis; where it has another size, of shuffled channels."""
    weight, value = _weight(case, draw)
    made, float_weight = _copy(case.base), _array(case.reference, weight)
    scale = _array(made, f"{weight}_scale")
    axis = _axis(made, weight)
    if float_weight.shape[1 - axis] == scale.size:
        others = tuple(i for i in range(float_weight.ndim) if i != 1 - axis)
        wrong = np.abs(float_weight).max(axis=others) / 127
    else:
        some = draw.permutation(scale.size)[: max(2, int(severity * scale.size))]
        wrong = scale.copy()
        wrong[some] = scale[np.roll(some, 1)]
    _replace(made, f"{weight}_scale", np.maximum(wrong, 1e-12).astype(np.float32))
    return Fault(case.reference, made, (value,))


def stale_bias(case: Case, draw: Draw, severity: float) -> Fault | None:
    """An int32 bias that is read with the scale of another calibration."""
    known = {t.name for t in case.base.graph.initializer}
    found = [
        (n.input[2], n.output[0]) for n in case.reference.graph.node
        if n.op_type in ("Conv", "Gemm") and len(n.input) > 2 and f"{n.input[2]}_quantized_scale" in known
    ]  # fmt: skip
    if not found:
        return None
    bias, value = found[draw.integers(len(found))]
    made, name = _copy(case.base), f"{bias}_quantized_scale"
    factor = np.float32(1 + 15 * severity)
    _replace(made, name, _array(made, name) * factor)
    return Fault(case.reference, made, (value,))


def outlier_channel(case: Case, draw: Draw, severity: float) -> Fault | None:
    """A channel 16 to 4,096 times larger than it was, by weights that give the same function."""
    pair = _between(case.reference, draw)
    if pair is None:
        return None
    first, second, value = pair
    made = _copy(case.reference)
    channel = int(draw.integers(_channels(made, first)))
    _scale_channel(made, first, second, channel, 2.0 ** (4 + 8 * severity))
    return Fault(made, case.quantize(made, case.calibration), (value,))


def fp16_overflow(case: Case, draw: Draw, severity: float) -> Fault | None:
    """A value in float16 that reaches beyond its end on some inputs; the rest of the net is float32."""
    pair = _between(case.reference, draw)
    if pair is None:
        return None
    first, second, value = pair
    made = _copy(case.reference)
    largest = np.abs(_run(made, case.calibration, value)).max()
    by = 65504 / largest * 2.0 ** (2 * severity - 0.5)
    for channel in range(_channels(made, first)):
        _scale_channel(made, first, second, channel, by)
    half = _copy(made)
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
    made = _copy(case.base)
    node = found[draw.integers(len(found))]
    source = node.input[0].removesuffix("_DequantizeLinear_Output")
    _replace(
        made,
        f"{source}_scale",
        (_array(made, f"{source}_scale") / (1 + 2 * severity)).astype(np.float32),
    )
    _saturate(made, node, source)
    return Fault(case.reference, made, (node.output[0], source))


KINDS: Mapping[str, Callable[[Case, Draw, float], Fault | None]] = {
    f.__name__: f
    for f in (clipped_range, stale_scale, bad_calibration_sample, zero_point, weight_scale, swapped_axis,
              stale_bias, outlier_channel, fp16_overflow, pair_saturation)
}  # fmt: skip


def _copy(proto: Any) -> Any:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made


def _array(proto: Any, name: str) -> NDArray[Any]:
    found: NDArray[Any] = numpy_helper.to_array(
        next(t for t in proto.graph.initializer if t.name == name)
    )
    return found


def _replace(proto: Any, name: str, values: Any) -> None:
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), name))


def _activations(case: Case) -> list[str]:
    """Values of the reference that have a pair."""
    made = {o for n in case.reference.graph.node for o in n.output} | {"x"}
    found = {n.input[0] for n in case.base.graph.node if n.op_type == "QuantizeLinear"}
    known = {t.name for t in case.base.graph.initializer}
    return sorted(v for v in found & made if f"{v}_scale" in known)


def _sharing(case: Case, site: str) -> tuple[str, ...]:
    """The values whose pairs have this one's scale, itself first."""
    others = {
        n.input[0] for n in case.base.graph.node
        if n.op_type == "QuantizeLinear" and n.input[1] == f"{site}_scale" and n.input[0] != site
    }  # fmt: skip
    return (site, *sorted(others))


def _rescaled(case: Case, draw: Draw, factor: float) -> Fault:
    site, made = draw.choice(_activations(case)), _copy(case.base)
    old = _array(made, f"{site}_scale")
    _replace(made, f"{site}_scale", (old * factor).astype(np.float32))
    return Fault(case.reference, made, _sharing(case, str(site)))


def _weight(case: Case, draw: Draw) -> tuple[str, str]:
    """A quantized weight, and the value that its product makes."""
    known = {t.name for t in case.base.graph.initializer}
    found = [
        (n.input[1], n.output[0]) for n in case.reference.graph.node
        if n.op_type in SCALED and f"{n.input[1]}_quantized" in known
        and _array(case.base, f"{n.input[1]}_scale").size >= LEAST_CHANNELS
    ]  # fmt: skip
    return found[draw.integers(len(found))]


def _axis(proto: Any, weight: str) -> int:
    node = next(n for n in proto.graph.node if f"{weight}_quantized" in n.input)
    return next((a.i for a in node.attribute if a.name == "axis"), 1) % 2


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
    return int(_array(proto, first.input[1]).shape[_out_axis(first)])


def _scale_channel(proto: Any, first: Any, second: Any, channel: int, by: float) -> None:
    for node, factor, axis in (
        (first, by, _out_axis(first)),
        (second, 1 / by, 1 - _out_axis(second)),
    ):
        weight = _array(proto, node.input[1]).copy()
        index: list[Any] = [slice(None)] * weight.ndim
        index[axis] = channel
        weight[tuple(index)] *= factor
        _replace(proto, node.input[1], weight)
    if len(first.input) > 2:
        bias = _array(proto, first.input[2]).copy()
        bias[channel] *= by
        _replace(proto, first.input[2], bias)


def _run(proto: Any, x: NDArray[Any], value: str) -> NDArray[Any]:
    import onnxruntime

    made = _copy(proto)
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
    shape = _array(case.base, f"{weight}_quantized").shape
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return len(shape) == 2 and shape[1 if turned else 0] % 2 == 0


def _saturate(made: Any, node: Any, source: str) -> None:
    """x W with sums of pairs clipped to int16, in place of a product: [.., K/2, 2, 1] x [K/2, 2, N]."""
    weight = node.input[1].removesuffix("_DequantizeLinear_Output")
    whole = _array(made, f"{weight}_quantized").astype(np.float32)  # [K, N], or [N, K]
    if any(a.name == "transB" and a.i for a in node.attribute):
        whole = whole.T
    zero = float(_array(made, f"{source}_zero_point"))
    scale = _array(made, f"{weight}_scale").astype(np.float32) * np.float32(
        _array(made, f"{source}_scale")
    )
    value, k = node.output[0], whole.shape[0]
    constants = {
        "pairs": whole.reshape(k // 2, 2, -1), "shape": np.asarray([0, -1, k // 2, 2, 1], np.int64),
        "flat": np.asarray([0, -1, whole.shape[1]], np.int64), "low": np.float32(-32768), "high": np.float32(32767),
        "two": np.asarray([-2], np.int64), "scale": scale, "zero": zero * whole.sum(axis=0),
    }  # fmt: skip
    names = {key: f"{value}_sat_{key}" for key in constants}
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v, np.int64 if np.asarray(v).dtype == np.int64 else np.float32), names[key])
        for key, v in constants.items()
    )  # fmt: skip
    flat = len(_array(made, f"{weight}_quantized").shape) == 2 and node.op_type == "Gemm"
    quantized = f"{source}_QuantizeLinear_Output"
    steps = [
        ("Cast", [quantized], "u8", {"to": TensorProto.FLOAT}),
        ("Reshape", ["u8", "shape"], "paired", {}),
        ("Mul", ["paired", "pairs"], "products", {}),
        ("ReduceSum", ["products", "two"], "sums", {"keepdims": 0}),
        ("Clip", ["sums", "low", "high"], "clipped", {}),
        ("ReduceSum", ["clipped", "two"], "total", {"keepdims": 0}),
        ("Sub", ["total", "zero"], "centred", {}),
        ("Mul", ["centred", "scale"], "scaled", {}),
    ]
    here = {key: f"{value}_sat_{key}" for _, ins, out, _ in steps for key in (*ins, out)} | {
        quantized: quantized
    }
    nodes = [
        helper.make_node(op, [here[i] for i in ins], [here[out]], f"{here[out]}_node", **more)
        for op, ins, out, more in steps
    ]
    last = "scaled"
    if flat:
        made.graph.initializer.append(
            numpy_helper.from_array(np.asarray([-1, whole.shape[1]], np.int64), f"{value}_sat_rows")
        )
        nodes.append(
            helper.make_node(
                "Reshape",
                [here["scaled"], f"{value}_sat_rows"],
                [f"{value}_sat_flat2"],
                f"{value}_sat_last",
            )
        )
        last = "flat2"
    bias = node.input[2] if len(node.input) > 2 else None
    if bias:
        nodes.append(
            helper.make_node("Add", [f"{value}_sat_{last}", bias], [value], f"{value}_sat_bias")
        )
    else:
        nodes.append(
            helper.make_node("Identity", [f"{value}_sat_{last}"], [value], f"{value}_sat_out")
        )
    at = next(i for i, n in enumerate(made.graph.node) if value in n.output)
    del made.graph.node[at]
    for one in reversed(nodes):
        made.graph.node.insert(at, one)
