"""gelu(linear(x, w, bias))  ->  bias_gelu(linear(x, w), bias)
gelu(x + bias)           ->  bias_gelu(x, bias), with a bias of one axis

Every gelu is a site.
"""

from __future__ import annotations

from typing import Any

from accel.kernels._torch import arguments, calls, sizes, text
from accel.protocols import TorchSite
from accel.values import Refusal


def site(node: Any) -> TorchSite | Refusal | None:
    """Both forms of GELU."""
    if not calls(node, "aten.gelu.default"):
        return None
    gelu = arguments(node)
    total, baked = gelu["self"], {"approximate": gelu["approximate"]}
    if not calls(total, "aten.linear.default", "aten.add.Tensor"):
        return Refusal(node.name, f"its input is {text(total)}, to which no bias was added")
    if len(total.users) > 1:
        return Refusal(node.name, "the sum with its bias is used elsewhere")
    given = arguments(total)
    if calls(total, "aten.linear.default"):
        if given["bias"] is None:
            return Refusal(node.name, f"its input is {text(total)}, which has no bias")
        product = ("aten.linear.default", (given["input"], given["weight"]))
        return TorchSite((product, given["bias"]), {"y": node}, baked)
    whole = sizes(total)
    x, bias = sorted(total.args, key=lambda term: sizes(term) != whole)
    if given["alpha"] != 1 or sizes(x) != whole or sizes(bias) != whole[-1:]:
        return Refusal(
            node.name, f"it adds {text(x)} and {text(bias)}: neither is a bias as long as a row"
        )
    return TorchSite((x, bias), {"y": node}, baked)
