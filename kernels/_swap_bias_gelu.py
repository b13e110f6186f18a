"""y = Gelu(Add(x, bias))  ->  y = BiasGelu(x, bias)

and the exact form that exporters write below opset 20, with s = Add(x, bias):

    y = s * (1 + Erf(s / sqrt(2))) * 0.5

where the 0.5 may come first and the division may be a product. Every Gelu and every Erf is a site.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from accel.kernels import _swap
from accel.kernels.bias_gelu import DTYPES, OP, VARIANTS

APPROXIMATE = tuple(v["approximate"] for v in VARIANTS)


def _native(op: Any, a: Any, b: Any) -> Any:
    return op.Gelu(op.Add(a, b), _allow_other_attributes=True, _outputs=["y"])


def _written_out(divided: bool, half_first: bool) -> Callable[..., Any]:
    def pattern(op: Any, a: Any, b: Any, root: Any, one: Any, half: Any) -> Any:
        s = op.Add(a, b)
        scaled = op.Div(s, root) if divided else op.Mul(s, root)
        above = op.Add(op.Erf(scaled), one)
        if half_first:
            return op.Mul(op.Mul(s, half), above, _outputs=["y"])
        return op.Mul(op.Mul(s, above), half, _outputs=["y"])

    return pattern


def _form(y: Any) -> str:
    form = _swap.attribute(y.producer(), "approximate", "none")
    return form.decode() if isinstance(form, bytes) else str(form)


def _bias(a: Any, b: Any) -> tuple[Any, Any] | None:
    """x and the bias: the weight of one axis, as long as x's last."""
    for x, bias in ((a, b), (b, a)):
        row = _swap.sizes(bias)
        if row and len(row) == 1 and _swap.are_weights(bias) and _swap.sizes(x):
            return (x, bias) if _swap.ordered(x, bias, row[0]) == (x, bias) else None
    return None


def _check(context: Any, a: Any, b: Any, y: Any, **_: Any) -> Any:
    return _swap.verdict(
        _swap.not_typed(y, DTYPES),
        _form(y) not in APPROXIMATE and f"its approximate is {_form(y)!r}, not {APPROXIMATE}",
        _bias(a, b) is None
        and f"it adds {_swap.text(a)} and {_swap.text(b)}: neither is a weight as long as a row",
    )


def _check_written_out(divided: bool) -> Callable[..., Any]:
    wanted = math.sqrt(2) if divided else 1 / math.sqrt(2)

    def check(context: Any, a: Any, b: Any, root: Any, one: Any, half: Any, y: Any) -> Any:
        constants = ((root, wanted), (one, 1.0), (half, 0.5))
        if not all(_swap.near(value, number) for value, number in constants):
            return _swap.verdict("its constants are not those of a GELU: sqrt(2), 1 and 0.5")
        return _check(context, a, b, y)

    return check


def _rewrite(op: Any, a: Any, b: Any, y: Any, **_: Any) -> Any:
    x, bias = _bias(a, b) or (a, b)
    return _swap.put(op, OP, (x, bias), approximate=_form(y))


def _explain(anchor: Any) -> str:
    """Of a Gelu, or of an Erf, whose input is then the sum times a number."""
    source = anchor.inputs[0]
    if anchor.op_type == "Erf":
        scaled = _swap.maker(source, "Div", "Mul")
        if scaled is None:
            return f"it is not a GELU's: its input is {_swap.origin(source)}"
        source = next((v for v in scaled.inputs if _swap.constant(v) is None), source)
    made = _swap.maker(source, "Add")
    if made is None:
        return f"its input is {_swap.origin(source)}, not an Add of a bias"
    if made.graph is not anchor.graph:
        return "its Add stands outside of the branch or loop that it is in"
    if anchor.op_type == "Gelu":
        return "the sum is used elsewhere"
    return "the nodes around it are not a GELU's, or one of their results is used elsewhere"


ANCHORS = ("Gelu", "Erf")
RULES = (
    _swap.Rule(_native, _check, _rewrite, ANCHORS, _explain),
    *(
        _swap.Rule(
            _written_out(divided, half_first),
            _check_written_out(divided),
            _rewrite,
            ANCHORS,
            _explain,
            commute=True,
        )
        for divided in (True, False)
        for half_first in (True, False)
    ),
)
