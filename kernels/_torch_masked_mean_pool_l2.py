"""The head of a sentence encoder, with column = mask as x's dtype, [B, S, 1] or expanded to x:

    p = sum(x * column, 1) / clamp(sum(column, 1), min_count)
    p / clamp(vector_norm(p, 2, -1, keepdim), min_norm)    ->  masked_mean_pool_l2(x, mask)

Every L2 normalisation over the last axis is a site.
"""

from __future__ import annotations

from typing import Any

from accel.kernels._torch import arguments, beneath, calls, sizes, text
from accel.protocols import TorchSite
from accel.values import Refusal

CLAMPS = ("aten.clamp_min.default", "aten.clamp.default")
EXPANDS = ("aten.expand.default", "aten.expand_as.default")
KEPT = ("torch.int64", "torch.float32", "torch.float64")  # other casts may change its numbers
CASTS = ("aten.to.dtype", "aten.to.dtype_layout", "aten._to_copy.default")


def site(node: Any) -> TorchSite | Refusal | None:
    """The mask is what stands below the casts, none of which may change its numbers."""
    if not calls(node, "aten.div.Tensor"):
        return None
    p, least = node.args[0], beneath(node.args[1], *EXPANDS)
    length = least.args[0] if calls(least, *CLAMPS) else None
    if not calls(length, "aten.linalg_vector_norm.default") or not _last_l2(length, p):
        return None
    if not calls(p, "aten.div.Tensor") or not calls(p.args[0], "aten.sum.dim_IntList"):
        return Refusal(node.name, f"it normalises {text(p)}, not a mean over tokens")
    total, count = p.args[0], p.args[1]
    product: Any = total.args[0]
    counted: Any = count.args[0] if calls(count, *CLAMPS) else None
    if not _over_tokens(total) or not calls(counted, "aten.sum.dim_IntList"):
        return Refusal(node.name, f"{text(count)} is not the clamped number of tokens")
    if not calls(product, "aten.mul.Tensor") or counted.args[0] not in product.args:
        return Refusal(node.name, "what is summed is not a product with what is counted")
    column = counted.args[0]
    x = next((term for term in product.args if term is not column), column)
    mask = _mask(column)
    if not _over_tokens(counted) or mask is None or sizes(mask) != sizes(x)[:2]:
        return Refusal(node.name, f"{text(column)} is not a mask of the tokens of {text(x)}")
    if not (_open(count) and _open(least)):
        return Refusal(node.name, "a clamp of it has an upper bound")
    baked = {"min_count": float(_least(count)), "min_norm": float(_least(least))}
    return TorchSite((x, mask), {"y": node}, baked)


def _last_l2(length: Any, p: Any) -> bool:
    norm = arguments(length)
    last = norm["dim"] in ([-1], [len(sizes(p)) - 1])
    return norm["self"] is p and float(norm["ord"]) == 2.0 and last and bool(norm["keepdim"])


def _over_tokens(total: Any) -> bool:
    """Does it sum the second of three axes, and drop it?"""
    given = arguments(total)
    return len(sizes(given["self"])) == 3 and given["dim"] in ([1], [-2]) and not given["keepdim"]


def _mask(column: Any) -> Any:
    """[B, S] below casts, an expand and one unsqueeze of the last axis; None where it is not so."""
    value, unsqueezed, kept = column, 0, (*KEPT, _dtype(column))
    while calls(value, "aten.unsqueeze.default", *CASTS, *EXPANDS):
        if _dtype(value) == "torch.bool" or (calls(value, *CASTS) and _dtype(value) not in kept):
            break  # its weights are 0 and 1, or wrapped, whatever the numbers below it are
        if calls(value, "aten.unsqueeze.default"):
            unsqueezed += 1 if arguments(value)["dim"] in (-1, 2) else 2
        value = value.args[0]
    return value if unsqueezed == 1 else None


def _dtype(value: Any) -> str:
    return str(value.meta["val"].dtype)


def _least(clamp: Any) -> Any:
    return arguments(clamp)["min"]


def _open(clamp: Any) -> bool:
    """A number for its lower bound, and no upper one?"""
    return isinstance(_least(clamp), (int, float)) and arguments(clamp).get("max") is None
