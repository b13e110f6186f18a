"""s = Add(x, residual), y = LayerNormalization(s, gamma, beta)  ->  y, s = ResidualLayerNorm(...)

Both results are kept, so the sum may be read elsewhere. What repeats over leading axes may stand on
either side of the Add. Every LayerNormalization is a site.
"""

from __future__ import annotations

from typing import Any

from accel.kernels import _swap
from accel.kernels.residual_layernorm import DTYPES, EPSILONS, LONGEST, OP


def _pattern(op: Any, a: Any, b: Any, gamma: Any, beta: Any) -> Any:
    s = op.Add(a, b)
    words = {"_allow_other_attributes": True, "_outputs": ["y"]}
    return op.LayerNormalization(s, gamma, beta, **words), s


def _epsilon(y: Any) -> float:
    return float(_swap.attribute(y.producer(), "epsilon", 1e-5))


def _check(context: Any, a: Any, b: Any, gamma: Any, beta: Any, y: Any) -> Any:
    norm, sizes = y.producer(), _swap.sizes(y) or (None,)
    columns = sizes[-1]
    of_row = f"{_swap.text(gamma)} and {_swap.text(beta)}"
    summed = f"{_swap.text(a)} and {_swap.text(b)}"
    return _swap.verdict(
        _swap.not_baked("epsilon", _epsilon(y), EPSILONS),
        _swap.not_typed(y, DTYPES),
        _swap.attribute(norm, "stash_type", 1) != 1 and "its arithmetic is not float32",
        not isinstance(columns, int) and "the length of its rows is not known",
        _swap.attribute(norm, "axis", -1) not in (-1, len(sizes) - 1)
        and "it normalises over more than the last axis",
        isinstance(columns, int) and columns > LONGEST and f"its rows are longer than {LONGEST}",
        not _swap.are_weights(gamma, beta) and "its scale or its bias is computed, not a weight",
        not _swap.sizes(gamma) == _swap.sizes(beta) == (columns,)
        and f"its scale and bias, {of_row}, are not as long as a row, {columns}",
        _swap.ordered(a, b, columns) is None
        and f"it adds {summed}: neither is known to repeat over leading axes of the other",
    )


def _rewrite(op: Any, a: Any, b: Any, gamma: Any, beta: Any, y: Any) -> Any:
    x, residual = _swap.ordered(a, b, (_swap.sizes(y) or (None,))[-1])
    return _swap.put(op, OP, (x, residual, gamma, beta), 2, epsilon=_epsilon(y))


def _explain(norm: Any) -> str:
    source = _swap.maker(norm.inputs[0], "Add")
    if source is None:
        return f"its input is {_swap.origin(norm.inputs[0])}, not an Add of two tensors"
    if source.graph is not norm.graph:
        return "its Add stands outside of the branch or loop that it is in"
    if len(norm.inputs) < 3 or norm.inputs[2] is None:
        return "it has no bias"
    return "its Mean or InvStdDev is used"


RULES = (_swap.Rule(_pattern, _check, _rewrite, ("LayerNormalization",), _explain),)
