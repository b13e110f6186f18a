"""layer_norm(x + residual, [C], gamma, beta, epsilon)  ->  y, s = residual_layernorm(...)

Every layer_norm is a site. The sum may be read elsewhere: it is the second result.
"""

from __future__ import annotations

from typing import Any

from accel.kernels._torch import arguments, calls, repeats, sizes, text
from accel.protocols import TorchSite
from accel.values import Refusal


def site(node: Any) -> TorchSite | Refusal | None:
    """Any epsilon: it is compiled in when the kernel is first started."""
    if not calls(node, "aten.layer_norm.default"):
        return None
    norm = arguments(node)
    total = norm["input"]
    if not calls(total, "aten.add.Tensor") or arguments(total)["alpha"] != 1:
        return Refusal(node.name, f"it normalises {text(total)}, not a sum")
    if len(norm["normalized_shape"]) != 1:
        return Refusal(node.name, f"it runs over {len(norm['normalized_shape'])} axes, not one")
    if norm["weight"] is None or norm["bias"] is None:
        return Refusal(node.name, "it has no gamma or no beta")
    whole = sizes(total)
    x, residual = sorted(total.args, key=lambda term: sizes(term) != whole)
    if sizes(x) != whole or not repeats(sizes(residual), whole):
        return Refusal(
            node.name,
            f"it adds {text(x)} and {text(residual)}: one must be as large as the sum, the other "
            f"may repeat over leading axes",
        )
    inputs = (x, residual, norm["weight"], norm["bias"])
    return TorchSite(inputs, {"y": node, "s": total}, {"epsilon": norm["eps"]})
