"""QuantizeLinear(act(Add(Mul(Cast(acc), scale), bias)), out_scale, out_zero_point)
->  DequantBiasActQuant(acc, scale, bias, out_scale, out_zero_point)

with act nothing, Relu, Gelu, or the BiasGelu that another rule made of Add and Gelu. Every
MatMulInteger and ConvInteger is a site; it stays, and gives acc. It cannot be seen in a Q/DQ graph,
whose accumulators are inside of the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accel.kernels import _swap, bias_gelu
from accel.kernels.dequant_bias_act_quant import DTYPES, OP, axes_behind

FLOAT = 1  # onnx.TensorProto.FLOAT
OTHERS = {"_allow_other_attributes": True}
STEPS = (
    ("Cast",),
    ("Mul",),
    ("Add", bias_gelu.OP),
    ("Relu", "Gelu", "QuantizeLinear"),
    ("QuantizeLinear",),
)


def _pattern(activation: str) -> Callable[..., Any]:
    def pattern(
        op: Any, acc: Any, scale: Any, bias: Any, out_scale: Any, out_zero_point: Any
    ) -> Any:
        scaled = op.Mul(op.Cast(acc, to=FLOAT, **OTHERS), scale)
        if activation == bias_gelu.OP:
            words = {"_domain": _swap.DOMAIN, "_outputs": ["v"], **OTHERS}
            v = getattr(op, activation)(scaled, bias, **words)
        elif activation:
            v = getattr(op, activation)(op.Add(scaled, bias), _outputs=["v"], **OTHERS)
        else:
            v = op.Add(scaled, bias, _outputs=["v"])
        return op.QuantizeLinear(v, out_scale, out_zero_point, _outputs=["y"], **OTHERS)

    return pattern


def _check(context: Any, **bound: Any) -> Any:
    return _swap.verdict(*_reasons(**bound))


def _reasons(
    acc: Any, scale: Any, bias: Any, out_scale: Any, out_zero_point: Any, v: Any, y: Any
) -> tuple[str | bool, ...]:
    form = _swap.attribute(v.producer(), "approximate", "none")
    return (
        _swap.dtype(acc) != "int32" and f"its accumulator is {_swap.dtype(acc)}, not int32",
        *(_swap.not_typed(value, ("float32",)) for value in (scale, bias, out_scale)),
        _swap.not_typed(out_zero_point, DTYPES),
        form not in ("none", b"none")
        and "its Gelu is the tanh form, the kernel's is the exact one",
        _swap.sizes(out_scale) not in ((), (1,))
        and f"its output has steps of its own for parts of it: {_swap.text(out_scale)}",
        _swap.attribute(y.producer(), "precision", FLOAT) not in (0, FLOAT)
        and "it divides by its step in another precision than float32",
        not _a_channel_each(acc, scale, bias)
        and f"its scale and bias, {_swap.text(scale)} and {_swap.text(bias)}, are not both one "
        f"value for each channel of {_swap.text(acc)}",
    )


def _a_channel_each(acc: Any, scale: Any, bias: Any) -> bool:
    """Do both lie along one axis of acc, its channels?"""
    whole, part = _swap.sizes(acc), _swap.sizes(scale)
    if not whole or not part or _swap.sizes(bias) != part:
        return False
    axis = len(whole) - 1 - axes_behind(part)
    channels = whole[axis] if axis >= 0 else None
    along = [size for size in part if size != 1]  # of [1] none is a channel's own, of [4, 4] 16 are
    return isinstance(channels, int) and along == ([channels] if channels != 1 else [])


def _rewrite(gelu: bool, relu: bool) -> Callable[..., Any]:
    def rewrite(
        op: Any,
        acc: Any,
        scale: Any,
        bias: Any,
        out_scale: Any,
        out_zero_point: Any,
        **_: Any,
    ) -> Any:
        inputs = (acc, scale, bias, out_scale, out_zero_point)
        return _swap.put(op, OP, inputs, relu=int(relu), gelu=int(gelu))

    return rewrite


def _explain(product: Any) -> str:
    """Of an integer product: what follows it where something else should, else why that is refused."""
    value, others = product.outputs[0], []
    for allowed in STEPS:
        users = [user for user, _ in value.uses()]
        if len(users) != 1 or value.is_graph_output():
            return f"the result of its {_swap.origin(value)} is used elsewhere"
        node = users[0]
        if node.op_type == OP:
            return ""
        if node.op_type == "DynamicQuantizeLinear":
            return "its next step is found as it runs, from all values: DynamicQuantizeLinear"
        if node.op_type not in allowed:
            return f"{node.op_type} follows its {_swap.origin(value)}, not {' or '.join(allowed)}"
        if node.op_type == "QuantizeLinear":
            break
        others += [other for other in node.inputs if other is not value]
        value = node.outputs[0]
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return "its QuantizeLinear has no zero point"
    bound = (product.outputs[0], *others, *node.inputs[1:], value, node.outputs[0])
    return next(
        (str(reason) for reason in _reasons(*bound) if reason),
        "it casts to another dtype than float32",
    )


ANCHORS = ("MatMulInteger", "ConvInteger")
RULES = tuple(
    _swap.Rule(
        _pattern(activation),
        _check,
        _rewrite(gelu=activation.endswith("Gelu"), relu=activation == "Relu"),
        ANCHORS,
        _explain,
        commute=True,
    )
    for activation in ("", "Relu", "Gelu", bias_gelu.OP)
)
