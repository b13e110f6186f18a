"""Reading the graph of an exported torch program, for the files _torch_<kernel>.py.

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


def beneath(value: Any, *operators: str) -> Any:
    """The first value below these calls, each looked through by its first argument."""
    while calls(value, *operators):
        value = value.args[0]
    return value


def sizes(value: Any) -> tuple[str, ...]:
    """A tensor's shape as texts, "s43" for a symbol; () for what is no tensor.

    Texts, because a comparison of torch's symbols would be kept as a promise about them."""
    found = getattr(value, "meta", {}).get("val")
    return tuple(map(str, getattr(found, "shape", ())))


def repeats(given: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    """Is a tensor of the given sizes, read over and over, as large as the whole?

    Only leading axes repeat: [1, S, C] in [N, S, C] does, [N, 1, C] does not."""
    kept = given
    while kept[:1] == ("1",) and len(kept) > 1:
        kept = kept[1:]
    return bool(kept) and whole[len(whole) - len(kept) :] == kept


def text(value: Any) -> str:
    """A value as a refusal names it: its operator with its shape, or a number."""
    if not hasattr(value, "op"):
        return repr(value)
    made = str(value.target).split(".")[1] if value.op == "call_function" else "an input"
    return f"{made} [{', '.join(sizes(value))}]"
