"""GELU in float32, for the kernels that end in it: v * Phi(v), and its tanh form.

Phi(v) = erfc(-v / sqrt(2)) / 2, and with u = |v| / sqrt(2), t = 1 / (1 + 0.3275911 u):
erfc(u) = (a1 t + a2 t^2 + a3 t^3 + a4 t^4 + a5 t^5) exp(-u^2), off by 1.5e-7 at most (Abramowitz and
Stegun, Handbook of Mathematical Functions, 7.1.26). It has no branch, and half the instructions of
the library's erf: in 16-bit floats those would be what the kernel waits for, not the memory.
The tanh form is v / (1 + exp(-2 sqrt(2/pi) (v + 0.044715 v^3))) (Hendrycks and Gimpel 2016).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accel.kernels._device import SIMULATED, device, f32

NATIVE = 20  # the opset that brought Gelu
LOG2E = math.log2(math.e)
P = f32(0.3275911 / math.sqrt(2))
A1, A2, A3, A4, A5 = (
    f32(a / 2) for a in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
)
SQUARE = f32(-LOG2E / 2)  # exp(-v^2 / 2) as a power of two
LINEAR = f32(-2 * math.sqrt(2 / math.pi) * LOG2E)
CUBE = f32(0.044715)
ONE = f32(1)


def exact(v: Any) -> Any:
    """v * Phi(v) in float64: the reference."""
    return v * np.vectorize(lambda one: math.erfc(-one / math.sqrt(2)) / 2, otypes=[float])(v)


def tanh_form(v: Any) -> Any:
    """0.5 v (1 + tanh(sqrt(2/pi) (v + 0.044715 v^3))) in float64: the reference."""
    return 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))


def written_out(source: str, result: str) -> list[Any]:
    """v * (1 + erf(v / sqrt(2))) / 2 in float32, as exporters write it below opset 20."""
    from onnx import TensorProto, helper

    numbers = (("root", math.sqrt(2)), ("one", 1.0), ("half", 0.5))
    return [
        *(
            helper.make_node(
                "Constant", [], [n], value=helper.make_tensor(n, TensorProto.FLOAT, [], [v])
            )
            for n, v in numbers
        ),
        helper.make_node("Div", [source, "root"], ["u"]),
        helper.make_node("Erf", ["u"], ["erf"]),
        helper.make_node("Add", ["erf", "one"], ["above"]),
        helper.make_node("Mul", [source, "above"], ["twice"]),
        helper.make_node("Mul", ["twice", "half"], [result]),
    ]


if SIMULATED:

    def _power_of_two(x: Any) -> Any:
        return np.float32(np.exp2(np.float32(x)))

    def _reciprocal(x: Any) -> Any:
        return np.float32(np.float32(1) / np.float32(x))

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    def _one_instruction(name: str) -> Any:
        """A PTX instruction from float32 to float32."""

        @intrinsic
        def instruction(typingctx: Any, x: Any) -> Any:
            def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
                kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()])
                return b.call(ir.InlineAsm(kind, f"{name} $0, $1;", "=f,f"), args)

            return types.float32(types.float32), generate

        return instruction

    _power_of_two = _one_instruction("ex2.approx.ftz.f32")  # 2 ulp
    _reciprocal = _one_instruction("rcp.approx.ftz.f32")  # 1 ulp


@device
def gelu(v: Any) -> Any:
    """v * Phi(v)."""
    t = _reciprocal(ONE + P * abs(v))
    half = t * (A1 + t * (A2 + t * (A3 + t * (A4 + t * A5)))) * _power_of_two(SQUARE * v * v)
    return v * (half if v < 0 else ONE - half)


@device
def gelu_tanh(v: Any) -> Any:
    """The tanh form."""
    return v * _reciprocal(ONE + _power_of_two(LINEAR * (v + CUBE * v * v * v)))
