"""Weights and ports whose sizes, types or values are not what they could be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.hostile.case import Case, X, dense, graph, model, node, relu, weight
from tests.legality.building import F

LINT = ("inspect", "--lint", "{}")
ROUNDED = ("quantize", "{}", "--recipe", "weight_only", "--out", "made.onnx")
HUGE = 2**62


def _weight(edit: Any) -> Any:
    """The dense graph, its one weight spoiled."""
    return graph(dense(), lambda m: edit(m.graph.initializer[0]))


def _sized(*dims: int, data: bytes | None = None) -> Any:
    def edit(tensor: Any) -> None:
        tensor.dims[:] = dims
        if data is not None:
            tensor.raw_data = data

    return _weight(edit)


def _raw(data: bytes) -> Any:
    return _weight(lambda tensor: setattr(tensor, "raw_data", data))


def _typed(count: int) -> Any:
    def edit(tensor: Any) -> None:
        tensor.ClearField("raw_data")
        tensor.float_data.extend([0.5] * count)

    return _weight(edit)


def _elsewhere(tensor: Any) -> None:
    tensor.ClearField("raw_data")
    tensor.double_data.extend([0.5] * 16)


def _bare(tensor: Any) -> None:
    tensor.ClearField("raw_data")


def _texts(tensor: Any) -> None:
    tensor.data_type = TensorProto.STRING


def _segment(tensor: Any) -> None:
    tensor.segment.begin, tensor.segment.end = 0, 8


def _sparse(at: list[int], dims: list[int] | None = None) -> Any:
    """x @ w, of which two values are given."""
    made = model([node("MatMul", "x w", "y")], [X], [("y", F, [2, 4])])
    values, places = weight("w", [1.0, 2.0]), weight("at", at, "int64")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, dims or [4, 4]))
    return made


def _port(*dims: int) -> Any:
    return graph(relu(), lambda m: m.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", F, dims)))  # fmt: skip


def cases() -> Iterator[Case]:
    """What cannot be true is refused; what can, and seldom is meant, reported."""
    yield Case("axes without end", _sized(*[HUGE] * 240), says=("w has 240 axes",))
    yield Case(
        "axes without end:a flood of them", _sized(*[HUGE] * 300_000), says=("w has 300000 axes",)
    )
    for name, at in (("outside", [0, 16]), ("below", [-1, 3]), ("unsorted", [3, 1])):
        yield Case(f"sparse indices {name}", graph(_sparse(at)), says=("w has",))
    yield Case("sparse weight that overflows", graph(_sparse([0, 3], [HUGE] * 18)), says=("bytes when written out",), command=ROUNDED)  # fmt: skip
    yield Case("2^62 elements", _sized(HUGE), says=("w is [4611686018427387904] of FLOAT",))
    yield Case("sizes that overflow", _sized(2**32, 2**32, data=b""), says=("73786976294838206464",))  # fmt: skip
    yield Case("sizes that overflow:to what is there", _sized(2**63 - 1, 2**63 - 1, 16, 4), says=("w",))  # fmt: skip
    yield Case("size beside a zero that no array has", _sized(0, HUGE), says=("axes that no array has",))  # fmt: skip
    yield Case("size below zero", _sized(-4, -4), says=("w has a size below 0",))
    yield Case("weight too short", _raw(bytes(60)), says=("64 bytes, but it holds 60",))
    yield Case("weight too long", _raw(bytes(68)), says=("64 bytes, but it holds 68",))
    yield Case("weight without values", _weight(_bare), says=("16 values, but it holds 0",))
    yield Case("typed values too few", _typed(15), says=("16 values, but it holds 15",))
    yield Case("values of another type", _weight(_elsewhere), says=("w is of FLOAT, and holds values as double_data",))  # fmt: skip
    yield Case("values given twice", _weight(lambda t: t.float_data.extend([1.0] * 16)), says=("w",))  # fmt: skip
    yield Case("unknown data type", _weight(lambda t: setattr(t, "data_type", 77)), says=("data type 77",))  # fmt: skip
    yield Case("data type missing", _weight(lambda t: t.ClearField("data_type")), says=("data type 0",))  # fmt: skip
    yield Case("texts as bytes", _weight(_texts), says=("w is [4, 4] of STRING",))
    yield Case("tensor in segments", _weight(_segment), says=("segment",))
    yield Case("constant too short", graph(_constant()), says=("but it holds 12",))
    yield Case("port of an unknown data type", graph(relu(), lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77)), says=("m.onnx",))  # fmt: skip
    yield from _reported()


def _constant() -> Any:
    value = weight("v", np.ones((2, 4)))
    value.raw_data = bytes(12)
    inner = [node("Constant", "", "v", value=value), node("Add", "x v", "y")]
    return model(inner, [X], [("y", F, [2, 4])])


def _reported() -> Iterator[Case]:
    for name, value in (("NaN", np.nan), ("Inf", np.inf), ("Inf:negative", -np.inf)):
        spoiled = np.full((4, 4), value, np.float32).tobytes()
        said = ("w holds 16 NaN",) if np.isnan(value) else ("w holds 0 NaN and 16 infinities",)
        yield Case(f"{name} weights", _raw(spoiled), "report", said)
    yield Case("port of 2^62 rows", _port(HUGE, 4), "report", ("no machine holds x",))
    yield Case("port of 2^124 values", _port(HUGE, HUGE), "report", ("no machine holds x",))
    yield Case("axis below zero", _port(-5, 4), "accept", ("['?', 4]",))
    yield Case("zero-size dims", graph(dense(0)), "accept", ("parameters: 0",))
    for name, scale in (("zero", 0.0), ("NaN", np.nan), ("negative", -0.5), ("infinite", np.inf)):
        quantized = graph(_quantized(scale))
        yield Case(f"Q/DQ scale {name}", quantized, "report", ("a scale of",), LINT, code=1)


def _quantized(scale: float) -> Any:
    pair = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "h")]
    return model(
        [*pair, node("Relu", "h", "y")],
        [X],
        [("y", F, [2, 4])],
        [weight("s", scale), weight("z", 0, "int8")],
    )
