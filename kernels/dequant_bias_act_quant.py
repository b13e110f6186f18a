"""dequant_bias_act_quant: y = saturate(round(act(acc * scale + bias) / out_scale) + out_zero_point)

acc: int32, [..., C] as MatMulInteger gives it, or [N, C, ...] as ConvInteger does; scale, bias: float32,
[C], or with as many axes of 1 behind it as acc has behind C ([C, 1, 1]); out_scale, out_zero_point:
one value, as QuantizeLinear takes them; y: int8 or uint8, like acc. act: nothing, ReLU or GELU. Halves
round to even, as in QuantizeLinear.

A graph moves the accumulator four times between an integer product and the next one; here it is read
once and a quarter of it is written. All values are one long run in groups of four, a read of 128 bits
and a write of 32; a thread has four groups, so that four reads are under way. Each product, sum and
quotient is rounded by itself, so for the first two activations a step of y is decided as in the graph;
the GELU is within an ulp or two of it.

A division of floats costs some twenty instructions, more than all the rest. Here it is the product with
the reciprocal, which a thread finds once, mended twice by its remainder: five instructions, rounded
as a division is. (Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor",
1990; Muller et al., Handbook of Floating-Point Arithmetic, section 4.7.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import cuda

from accel.cuda.geometry import cdiv, product, require_countable, require_single
from accel.errors import UsageError
from accel.kernels import _gelu
from accel.kernels._device import BYTES, aligned, device, f32, fused, i32, i64, multiply, read, u32
from accel.kernels._words import read_words, write_bytes
from accel.protocols import Case, Launch, Shapes, Signature
from accel.values import Feed, Options

OP = "DequantBiasActQuant"
DTYPES = ("int8", "uint8")  # of y
VARIANTS: tuple[Options, ...] = (
    {"relu": 0, "gelu": 0},
    {"relu": 1, "gelu": 0},
    {"relu": 0, "gelu": 1},
)
TOLERANCE = {"int8": 0.0, "uint8": 0.0}
THREADS, GROUPS = 256, 4  # threads of a block, and groups of four values that each of them takes
OF_BLOCK = THREADS * 4 * GROUPS
REACH = f32(1 << 20)  # steps: far beyond both ends, and still rounded to an integer by SHIFT
USUAL = (
    f32(2.0**-80),
    f32(2.0**80),
)  # steps whose quotients neither overflow nor lose bits on the way
SHIFT = f32(3 << 22)  # x + 1.5 * 2^23 - 1.5 * 2^23 rounds a small x to an integer, halves to even


def signature(dtype: str, baked: Options) -> Signature:
    """acc, scale, bias, out_scale, out_zero_point | rows, channels, values behind a channel | y."""
    return Signature(
        (
            ("acc", "int32"),
            ("scale", "float32"),
            ("bias", "float32"),
            ("out_scale", "float32"),
            ("out_zero_point", dtype),
        ),
        ("rows", "channels", "inner"),
        (("y", dtype),),
    )


def output_shapes(shapes: Shapes, baked: Options) -> Shapes:
    """As large as acc."""
    return {"y": shapes["acc"]}


def launch(shapes: Shapes, dtype: str, baked: Options) -> Launch:
    """As many blocks as the values fill.

    Raises UsageError unless scale and bias hold one value a channel, out_scale and out_zero_point
    one in all, and for more than 2^34 values."""
    acc, scale = shapes["acc"], shapes["scale"]
    behind = axes_behind(scale)
    channels = math.prod(scale)
    axis = len(acc) - 1 - behind
    strange = axis < 0 or (isinstance(acc[axis], int) and acc[axis] != channels)
    strange = strange or sum(size != 1 for size in scale) > 1
    if strange or shapes["bias"] != scale:
        raise UsageError(
            f"dequant_bias_act_quant takes scale and bias of one value a channel, not {scale} and "
            f"{shapes['bias']} for an accumulator {acc}."
        )
    require_single("dequant_bias_act_quant", shapes, "out_scale", "out_zero_point")
    rows, inner = product(acc[:axis]), product(acc[axis + 1 :])
    values = product((*acc[:axis], channels, *acc[axis + 1 :]))
    require_countable("dequant_bias_act_quant", values, 4)
    return Launch((cdiv(values, OF_BLOCK), 1, 1), (THREADS, 1, 1), (rows, channels, inner))


def axes_behind(scale: tuple[Any, ...]) -> int:
    """Axes of 1 behind the channels: 2 for [C, 1, 1]."""
    sizes = list(scale)
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    return len(scale) - len(sizes)


def reference(inputs: Feed, baked: Options) -> dict[str, Any]:
    """float64 throughout."""
    v = inputs["acc"] * inputs["scale"].astype(np.float64) + inputs["bias"].astype(np.float64)
    v = _gelu.exact(v) if baked["gelu"] else v
    v = np.maximum(v, 0) if baked["relu"] else v
    zero_point = inputs["out_zero_point"]
    bounds = np.iinfo(zero_point.dtype)
    steps = np.rint(v / inputs["out_scale"].astype(np.float64)) + zero_point
    return {"y": np.clip(steps, bounds.min, bounds.max)}


def source(dtype: str, baked: Options) -> Any:
    """Block (threads). The bounds of a step are whole, so what is outside may be cut before it is
    rounded; what is left is small enough to be rounded by two sums."""
    bounds = np.iinfo(dtype)
    least, most = f32(bounds.min), f32(bounds.max)
    relu, gelu = bool(baked["relu"]), bool(baked["gelu"])
    activate = _gelu.gelu
    apart, room, smallest, largest = THREADS * 4, 4 * GROUPS, *USUAL

    @device
    def quotient(v, step, inverse):  # type: ignore[no-untyped-def]
        if inverse == f32(0):
            return v / step
        end = multiply(step, REACH)
        v = min(max(v, -end), end)  # infinities have no remainder
        q = multiply(v, inverse)
        q = fused(fused(-q, step, v), inverse, q)
        return fused(fused(-q, step, v), inverse, q)

    @device
    def requantized(value, scale, bias, step, inverse, zero):  # type: ignore[no-untyped-def]
        v = multiply(f32(value), scale) + bias
        if gelu:
            v = activate(v)
        if relu:
            v = max(v, f32(0))
        v = min(max(quotient(v, step, inverse), least - zero), most - zero)
        return i32(v + SHIFT - SHIFT + zero)

    def dequant_bias_act_quant(  # type: ignore[no-untyped-def]
        acc, scale, bias, out_scale, out_zero_point, rows, channels, inner, y
    ):
        total = i64(rows) * i64(channels) * i64(inner)
        first = i64(cuda.blockIdx.x) * i64(OF_BLOCK) + i32(cuda.threadIdx.x) * i32(4)
        step, zero = out_scale[0], f32(out_zero_point[0])
        inverse = f32(0)
        if step > smallest and step < largest:
            inverse = f32(1) / step
        wide = aligned(acc) and aligned(y) and aligned(scale) and aligned(bias)
        wide = wide and ((inner == 1 and channels % 4 == 0) or inner % 4 == 0)
        if wide:
            held = cuda.local.array(room, i32)
            for k in range(GROUPS):  # the last groups again, rather than a branch between reads
                a = read_words(acc, min(first + i64(k * apart), total - i64(4)))
                held[4 * k], held[4 * k + 1], held[4 * k + 2], held[4 * k + 3] = a
            # in 32 bits: a remainder of 64 would cost more than the rest
            group, of_row = u32(first >> 2), u32(channels) >> 2
            c, further = u32(0), u32(0)
            if inner == 1:
                c, further = group % of_row, u32(THREADS) % of_row
            for k in range(GROUPS):
                i = first + i64(k * apart)
                if i < total:
                    if inner == 1:
                        s, b = read(scale, c * u32(4)), read(bias, c * u32(4))
                        c = c + further
                        if c >= of_row:
                            c = c - of_row
                    else:
                        at = (group + u32(k * THREADS)) // (u32(inner) >> 2) % u32(channels)
                        s = (scale[at], scale[at], scale[at], scale[at])
                        b = (bias[at], bias[at], bias[at], bias[at])
                    write_bytes(
                        y,
                        i,
                        requantized(held[4 * k], s[0], b[0], step, inverse, zero),
                        requantized(held[4 * k + 1], s[1], b[1], step, inverse, zero),
                        requantized(held[4 * k + 2], s[2], b[2], step, inverse, zero),
                        requantized(held[4 * k + 3], s[3], b[3], step, inverse, zero),
                    )
        else:
            for k in range(4 * GROUPS):
                i = first + i64((k // 4) * apart + k % 4)
                if i < total:
                    c = i // inner % channels
                    value = requantized(acc[i], scale[c], bias[c], step, inverse, zero)
                    y[i] = value

    return dequant_bias_act_quant


def function(opset: int) -> Any:
    """Cast, Mul, Add, the activation, QuantizeLinear.

    An attribute cannot name an operator, so an activation is a branch on an attribute of its own;
    engines decide it when they load the graph."""
    from onnx import helper

    native = [helper.make_node("Gelu", ["v"], ["with_gelu"])]
    nodes = [
        helper.make_node("CastLike", ["acc", "scale"], ["real"]),
        helper.make_node("Mul", ["real", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["v"]),
        *_choice("gelu", "v", "curved", native if opset >= _gelu.NATIVE else _gelu.written_out("v", "with_gelu")),
        *_choice("relu", "curved", "active", [helper.make_node("Relu", ["curved"], ["with_relu"])]),
        helper.make_node("QuantizeLinear", ["active", "out_scale", "out_zero_point"], ["y"]),
    ]  # fmt: skip
    return helper.make_function(
        "accel.kernels",
        OP,
        ["acc", "scale", "bias", "out_scale", "out_zero_point"],
        ["y"],
        nodes,
        [helper.make_opsetid("", opset)],
        attributes=["relu", "gelu"],
    )


def _choice(flag: str, source: str, result: str, nodes: list[Any]) -> list[Any]:
    """result = nodes(source) where the attribute is 1, else source."""
    from onnx import AttributeProto, TensorProto, ValueInfoProto, helper

    def branch(name: str, inside: list[Any]) -> Any:
        ends = [ValueInfoProto(name=inside[-1].output[0])]  # its type is the source's
        return helper.make_graph(inside, name, [], ends)

    constant = helper.make_node("Constant", [], [f"{flag}_flag"])
    constant.attribute.append(
        AttributeProto(name="value_int", ref_attr_name=flag, type=AttributeProto.INT)
    )
    wanted, without = f"{flag}_wanted", f"without_{flag}"
    return [
        constant,
        helper.make_node("Cast", [f"{flag}_flag"], [wanted], to=TensorProto.BOOL),
        helper.make_node(
            "If",
            [wanted],
            [result],
            then_branch=branch(flag, nodes),
            else_branch=branch(without, [helper.make_node("Identity", [source], [without])]),
        ),
    ]


def rules() -> tuple[Any, ...]:
    """Cast, Mul, Add, an activation, QuantizeLinear behind an integer product.

    A graph with Q/DQ nodes has no such site: there the accumulator exists only inside of an engine,
    behind MatMul between DequantizeLinear and QuantizeLinear. The rule is for graphs in integer
    operators whose steps are known beforehand; dynamic quantization finds its steps as it runs."""
    from accel.kernels import _swap_dequant_bias_act_quant

    return _swap_dequant_bias_act_quant.RULES


def cases(dtype: str) -> Iterable[Case]:
    """Every activation; odd and even rows, channels before the last axis, ties, both ends, no alignment."""
    for baked in VARIANTS:
        form = "relu" if baked["relu"] else "gelu" if baked["gelu"] else "none"
        yield Case(f"{form}: rows", _draw(dtype, (2, 3, 96)), baked)
        yield Case(f"{form}: odd row", _draw(dtype, (5, 77)), baked)
    yield Case("one value", _draw(dtype, (1, 1)))
    yield Case("channels first", _draw(dtype, (2, 6, 4, 8), behind=2))
    yield Case("channels first, odd", _draw(dtype, (1, 5, 7, 3), behind=2))
    yield Case("not aligned", _draw(dtype, (3, 64)), offset=1)
    ties = _draw(dtype, (4, 64))
    ties["acc"][:] = np.arange(-128, 128, dtype=np.int32).reshape(4, 64)
    ties |= {"scale": np.full(64, 0.5, np.float32), "bias": np.zeros(64, np.float32)}
    ties["out_scale"] = np.asarray(1, np.float32)
    yield Case("halves go to the even step", ties)
    ends = _draw(dtype, (2, 64))
    ends["acc"][0], ends["acc"][1] = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    ends["bias"][:2] = np.inf, -np.inf
    yield Case("beyond both ends", ends)


def _draw(dtype: str, shape: tuple[int, ...], behind: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(math.prod(shape))
    bounds = np.iinfo(dtype)
    channels = (shape[len(shape) - 1 - behind], *(1,) * behind)
    return {
        "acc": draw.integers(-40_000, 40_000, shape).astype(np.int32),
        "scale": draw.uniform(2e-5, 2e-4, channels).astype(np.float32),
        "bias": draw.normal(size=channels).astype(np.float32),
        "out_scale": np.asarray(0.031, np.float32),
        "out_zero_point": np.asarray(draw.integers(bounds.min, bounds.max, endpoint=True), dtype),
    }


def moved_bytes(shapes: Shapes, dtype: str, baked: Options) -> int:
    """acc in, y out, scale and bias once; the two single values are not counted."""
    values, channels = math.prod(shapes["acc"]), math.prod(shapes["scale"])
    return int(values * (BYTES["int32"] + BYTES[dtype]) + 2 * channels * BYTES["float32"])
