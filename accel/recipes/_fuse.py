"""Transformer fusions by ONNX Runtime's own optimizer, with the sites that it found counted.

It returns a graph and no complaint when it found none (0 of 6 attentions on torch.export's graph:
its symbolic shape inference fails there), so sites are counted before and after.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from accel import graph
from accel.errors import CandidateBroken
from accel.recipes._quiet import quiet

FUSED = ("Attention", "EmbedLayerNormalization", "SkipLayerNormalization", "BiasGelu", "Gelu")


def sites(proto: Any) -> dict[str, int]:
    """Places where a fusion could fire: attentions (a Softmax each), layer norms, exact GELUs."""
    found = graph.operators(proto)
    return {
        "Attention": found.get("Softmax", 0) + found.get("Attention", 0),
        "LayerNorm": found.get("LayerNormalization", 0),
        "Gelu": found.get("Erf", 0) + found.get("Gelu", 0),
    }


def is_transformer(proto: Any) -> bool:
    """Has it attention and layer norms?"""
    found = sites(proto)
    return bool(found["Attention"] and found["LayerNorm"])


def heads(proto: Any) -> tuple[int, int]:
    """(heads, hidden size): hidden is a layer norm's width, a head's size the constant that the
    reshapes split it by. (0, 0) where that cannot be read: the optimizer then guesses itself."""
    import onnx

    tensors = {t.name: t for t in proto.graph.initializer}
    norms = [n for n in graph.walk(proto) if n.op_type == "LayerNormalization"]
    widths = [tensors[n.input[1]].dims[0] for n in norms if n.input[1] in tensors]
    if not widths:
        return 0, 0
    inline = [a.t for n in graph.walk(proto) for a in n.attribute if n.op_type == "Constant"]
    sizes: Counter[int] = Counter()
    for tensor in (*tensors.values(), *inline):
        if tensor.data_type == onnx.TensorProto.INT64 and math.prod(tensor.dims) in (1, 4):
            value = int(onnx.numpy_helper.to_array(tensor).ravel()[-1])
            sizes[value] += 8 <= value < widths[0] and widths[0] % value == 0
    size, seen = sizes.most_common(1)[0] if sizes else (0, 0)
    return (widths[0] // size, widths[0]) if seen else (0, 0)


def fuse(proto: Any) -> tuple[Any, Mapping[str, Any]]:
    """The fused graph, and how many of the sites were fused: {"fused": "Attention 6 of 6, ..."}."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    before = sites(proto)
    number, hidden = heads(proto)
    with quiet("ONNX Runtime's optimizer"):
        made = optimizer.optimize_model(
            proto,
            model_type="bert",
            num_heads=number,
            hidden_size=hidden,
            opt_level=0,
            optimization_options=FusionOptions("bert"),
            use_gpu=False,
        )
        made.topological_sort()
    made = made.model
    if not any(o.domain == "com.microsoft" for o in made.opset_import):
        made.opset_import.add(domain="com.microsoft", version=1)  # the optimizer leaves it out
    after = Counter(n.op_type for n in made.graph.node if n.domain == "com.microsoft")
    skip = after["SkipLayerNormalization"] + after["EmbedLayerNormalization"]
    gelu = after["BiasGelu"] + after["Gelu"] + after["FastGelu"]
    words = {
        "Attention": (after["Attention"] + after["MultiHeadAttention"], before["Attention"]),
        "LayerNorm": (skip, before["LayerNorm"]),
        "Gelu": (gelu, before["Gelu"]),
    }
    return made, {"fused": ", ".join(f"{k} {a} of {b}" for k, (a, b) in words.items())}


def fused(proto: Any) -> tuple[Any, Mapping[str, Any]]:
    """As `fuse`. Raises CandidateBroken where there is nothing to fuse."""
    if not is_transformer(proto):
        raise CandidateBroken("nothing to fuse: no attention with layer norms in this graph")
    return fuse(proto)


def private(proto: Any) -> bool:
    """Does the graph need ONNX Runtime's own operators?"""
    return any(node.domain.startswith("com.microsoft") for node in graph.walk(proto))
