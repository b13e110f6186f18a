"""Reading the graph of an exported torch program, for kernels that say where they fit in it.

Nodes are torch.fx's; operators are ATen's, named "aten.add.Tensor". Nothing here imports torch.
"""

from __future__ import annotations

from typing import Any


def calls(node: Any, *operators: str) -> bool:
    """Is it a call of one of these?"""
    return getattr(node, "op", "") == "call_function" and str(node.target) in operators


def arguments(node: Any) -> dict[str, Any]:
    """What an operator is called with, by its schema's names, defaults among them."""
    schema = node.target._schema.arguments
    found = {a.name: a.default_value for a in schema if a.has_default_value()}
    found |= {a.name: value for a, value in zip(schema, node.args, strict=False)}
    return found | dict(node.kwargs)


def sizes(node: Any) -> tuple[str, ...]:
    """A tensor's shape as text, "s43" for a symbol; () for what is no tensor.

    Texts, because a comparison of torch's symbols would be written down as a promise about them."""
    value = getattr(node, "meta", {}).get("val")
    return tuple(map(str, getattr(value, "shape", ())))


def repeats(sizes: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    """Is a tensor of the first sizes, read over and over, as large as the whole?

    Only leading axes repeat: [1, S, C] in [N, S, C] does, [N, 1, C] does not."""
    kept = sizes
    while kept[:1] == ("1",) and len(kept) > 1:
        kept = kept[1:]
    return bool(kept) and whole[len(whole) - len(kept) :] == kept
