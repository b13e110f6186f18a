"""Products by a matrix whose activation gets its scale as it passes: what static ranges lose, at some speed.

    y = (q(x) - z_x) . q(W) * (s_x s_W),    s_x, z_x of this very x    (DynamicQuantizeLinear, ONNX)

Dettmers et al., LLM.int8(), arXiv:2208.07339, section 2.1, with one scale a tensor. ONNX Runtime fuses the
five nodes into one (DynamicQuantizeMatMul).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from accel.qdq import numbers, order
from accel.qdq.numbers import Steps
from accel.qdq.sites import Site


def able(site: Site) -> bool:
    """A MatMul by a constant on its right: MatMulInteger wants the matrix there."""
    return site.operator == "MatMul" and site.weight is not None and site.weight.slot == 1


def quantize(
    made: Any, found: Sequence[Site], chosen: Collection[str], steps: Steps, per_channel: bool
) -> tuple[str, ...]:
    """Change the products of `made` whose names are chosen, in place; the names of the changed.

    `found`: sites of `made`. The others, and what is no product by a matrix, stay as they are."""
    known = {t.name: t for t in made.graph.initializer}
    changed = [s for s in found if s.name in chosen and able(s)]
    instead: dict[str, list[Any]] = {}  # the output of a product -> its nodes
    behind: dict[str, list[Any]] = {}
    for site in changed:
        node = made.graph.node[site.index]
        if node.input[0] not in behind:
            behind[node.input[0]] = [_quantized(node.input[0])]
        instead[node.output[0]] = _product(made, node, site, known, steps, per_channel)
    kept = [one for n in made.graph.node for one in instead.get(next(iter(n.output), ""), [n])]
    copies = [type(n).FromString(n.SerializeToString()) for n in kept]
    made.graph.ClearField("node")
    made.graph.node.extend(copies)
    order.insert(made, (), behind)
    order.drop_unread(made)
    return tuple(s.name for s in changed)


def _quantized(name: str) -> Any:
    parts = [f"{name}__{part}" for part in ("dynamic", "dynamic_scale", "dynamic_zero")]
    return helper.make_node("DynamicQuantizeLinear", [name], parts, f"{name}__DynamicQ")


def _product(
    made: Any, node: Any, site: Site, known: Mapping[str, Any], steps: Steps, per_channel: bool
) -> list[Any]:
    assert site.weight is not None
    weight = numpy_helper.to_array(known[site.weight.name])  # [..., K, N]
    axis = weight.ndim - 1 if per_channel and weight.ndim == 2 else None
    found = numbers.of_weight(weight, axis, steps)
    tag, given, output = site.name, node.input[0], node.output[0]
    names = [f"{tag}__dynamic_{part}" for part in ("weight", "weight_scale", "weight_zero")]
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), n) for v, n in zip(found, names, strict=True)
    )
    whole, wide, scale = (f"{tag}__dynamic_{part}" for part in ("sums", "float", "scale"))
    inputs = [f"{given}__dynamic", names[0], f"{given}__dynamic_zero", names[2]]
    return [
        helper.make_node("MatMulInteger", inputs, [whole], f"{tag}__MatMulInteger"),
        helper.make_node("Cast", [whole], [wide], f"{tag}__Cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{given}__dynamic_scale", names[1]], [scale], f"{tag}__scales"),
        helper.make_node("Mul", [wide, scale], [output], f"{tag}__scaled"),
    ]
