"""The head of a sentence encoder, with column = mask as x's dtype, [B, S, 1] or expanded to [B, S, C]:

    p = ReduceSum(x * column, 1) / Clip(ReduceSum(column, 1), 1e-9)
    y = p / Clip(ReduceL2(p, 1), 1e-12)                 ->  y = MaskedMeanPoolL2(x, mask)

The last divisor may be expanded to p's shape. Sites are every ReduceL2, and every ReduceSum over a
product with a mask that no ReduceL2 follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accel.kernels import _swap
from accel.kernels.masked_mean_pool_l2 import DTYPES, OP, VARIANTS, WIDEST

CLAMPS = {name: tuple(v[name] for v in VARIANTS) for name in ("min_count", "min_norm")}
MASKING = ("Cast", "Unsqueeze", "Expand")  # between the caller's mask and what x is multiplied by
KEPT = ("int64", "float32", "float64")  # a cast to any other dtype may change a mask's numbers


def _pattern(divisor: Callable[..., Any]) -> Callable[..., Any]:
    def pattern(op: Any, x: Any, column: Any, min_count: Any, min_norm: Any, shape: Any) -> Any:
        words = {"_allow_other_attributes": True, "_allow_other_inputs": True}
        total = op.ReduceSum(op.Mul(x, column), **words, _outputs=["total"])
        count = op.ReduceSum(column, **words, _outputs=["count"])
        p = op.Div(total, op.Clip(count, min_count, _allow_other_inputs=True, _outputs=["least"]))
        length = op.ReduceL2(p, **words, _outputs=["length"])
        norm = op.Clip(length, min_norm, _allow_other_inputs=True, _outputs=["norm"])
        return op.Div(p, divisor(op, norm, p, shape), _outputs=["y"])

    return pattern


def _as_it_is(op: Any, norm: Any, p: Any, shape: Any) -> Any:
    return norm


def _to_the_mean(op: Any, norm: Any, p: Any, shape: Any) -> Any:
    return op.Expand(norm, op.Shape(p, _allow_other_attributes=True))


def _to_sizes(op: Any, norm: Any, p: Any, shape: Any) -> Any:
    return op.Expand(norm, shape, _outputs=["expanded"])


def _mask(column: Any) -> Any:
    """What the caller gave: an Unsqueeze of it at the end, casts and an Expand may lie between.
    A cast to bool makes every weight 0 or 1, one to int8 wraps: the mask begins there."""
    value, unsqueezed = column, 0
    while (node := value.producer()) is not None and node.op_type in MASKING:
        if node.op_type == "Cast" and _swap.dtype(value) not in (*KEPT, _swap.dtype(column)):
            break
        if node.op_type == "Unsqueeze":
            unsqueezed += 1 if _axes(node) in ([-1], [2]) else 2
        value = node.inputs[0]
    return value if unsqueezed == 1 else None


def _axes(node: Any) -> list[int] | None:
    """An input since opset 13 or 18, an attribute before."""
    found = _swap.attribute(node, "axes", None)
    if found is None and len(node.inputs) > 1:
        found = _swap.constant(node.inputs[1])
    return None if found is None else [int(axis) for axis in found]


def _over(value: Any, axes: tuple[int, ...], keepdims: int) -> bool:
    """Does its reduction run over one of these axes alone?"""
    node = value.producer()
    found = _axes(node)
    kept = _swap.attribute(node, "keepdims", 1) == keepdims
    return kept and found is not None and len(found) == 1 and found[0] in axes


def _open(clip: Any) -> bool:
    """Has the Clip no upper bound?"""
    return len(clip.producer().inputs) < 3 or clip.producer().inputs[2] is None


def _check(context: Any, x: Any, column: Any, min_count: Any, min_norm: Any, total: Any, count: Any, least: Any, length: Any, norm: Any, expanded: Any = None, **_: Any) -> Any:  # fmt: skip
    given, mask = _swap.sizes(x), _mask(column)
    if given is None or len(given) != 3 or not isinstance(given[2], int):
        return _swap.verdict(f"x {_swap.text(x)} is not [batch, tokens, a known width]")
    columns = given[2]
    if mask is None or _swap.sizes(column) not in ((*given[:2], 1), given):
        reason = (
            f"x {_swap.text(x)} is multiplied by {_swap.text(column)}, not by a mask of its tokens"
        )
        return _swap.verdict(reason)
    known = None not in given and _swap.sizes(mask) == given[:2]
    return _swap.verdict(
        _swap.not_typed(x, DTYPES),
        _swap.dtype(mask) != "int64" and f"its mask is {_swap.dtype(mask)}, not int64",
        not known and f"its mask {_swap.text(mask)} is not known to fit x {_swap.text(x)}",
        columns > WIDEST and f"its tokens are wider than {WIDEST}",
        not (_over(total, (1, -2), 0) and _over(count, (1, -2), 0)) and "it does not sum tokens",
        not _over(length, (1, -1), 1) and "its norm does not run over the columns",
        not (_open(least) and _open(norm)) and "a Clip of it has an upper bound",
        *(
            _swap.not_baked(name, _swap.scalar(value), CLAMPS[name])
            for name, value in (("min_count", min_count), ("min_norm", min_norm))
        ),
        expanded is not None
        and _swap.sizes(expanded) != (given[0], columns)
        and f"its norm is expanded to {_swap.text(expanded)}, not to the mean's sizes",
    )


def _rewrite(op: Any, x: Any, column: Any, min_count: Any, min_norm: Any, **_: Any) -> Any:
    clamps: dict[str, Any] = {"min_count": min_count, "min_norm": min_norm}
    clamps = {name: _swap.scalar(value) for name, value in clamps.items()}
    return _swap.put(op, OP, (x, _mask(column)), **clamps)


def _explain(anchor: Any) -> str:
    if anchor.op_type == "ReduceSum":
        masked = _masked(anchor) and not _normalised(anchor)
        return "no L2 normalisation follows the masked sum" if masked else ""
    mean = anchor.inputs[0].producer()
    total = mean.inputs[0].producer() if mean is not None and mean.op_type == "Div" else None
    if total is None or total.op_type != "ReduceSum":
        return f"it normalises {_swap.origin(anchor.inputs[0])}, not the mean over tokens"
    if not _masked(total):
        return "the mean is not taken over a product with a mask"
    return "the nodes around it are not a pooling head's, or a result of theirs is used elsewhere"


def _masked(total: Any) -> bool:
    """Does it sum a product with what was a mask of whole numbers or truth values?"""
    product = total.inputs[0].producer()
    if product is None or product.op_type != "Mul":
        return False
    masks = [_mask(value) for value in product.inputs]
    return any(m is not None and _swap.dtype(m) in ("int64", "int32", "bool") for m in masks)


def _normalised(total: Any) -> bool:
    means = [n for n, _ in total.outputs[0].uses() if n.op_type == "Div"]
    return any(n.op_type == "ReduceL2" for mean in means for n, _ in mean.outputs[0].uses())


RULES = tuple(
    _swap.Rule(_pattern(one), _check, _rewrite, ("ReduceL2", "ReduceSum"), _explain, commute=True)
    for one in (_as_it_is, _to_the_mean, _to_sizes)
)
