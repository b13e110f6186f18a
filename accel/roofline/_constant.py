"""What of a graph is fixed before it runs: its weights, and what nodes make of weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from accel.roofline._fold import RANDOM
from accel.roofline._sizes import Sized

# Their outputs are their inputs' bytes under other sizes: nothing is moved.
VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
KNOWN = ("", "ai.onnx", "com.microsoft")  # domains


def kind(node: Any) -> str:
    """Its operator; empty for a stranger's, which may have the name of one of ONNX's and neither inputs
    nor outputs: onnx's checker knows ONNX's own alone."""
    whole = node.output and (node.input or node.op_type == "Constant")
    return str(node.op_type) if whole and node.domain in KNOWN else ""


def roots(sized: Sized) -> Mapping[str, frozenset[str]]:
    """Each fixed value -> the weights and Constants that it is made of."""
    found = {name: frozenset({name}) for name in sized.weights}
    for node in sized.nodes:
        if kind(node) == "Constant":
            found[node.output[0]] = frozenset({node.output[0]})
        elif is_fixed(node, found):
            made = frozenset().union(*(found[i] for i in node.input if i))
            found.update((name, made) for name in node.output if name)
    return found


def is_fixed(node: Any, fixed: Mapping[str, Any]) -> bool:
    """Does a node see nothing but weights, so that engines run it once, when they build?"""
    given = [name for name in node.input if name]
    alike = bool(given) and all(name in fixed for name in given)
    return alike and node.op_type not in RANDOM and not any(True for _ in subgraphs(node))


def subgraphs(node: Any) -> Iterator[Any]:
    """The bodies of an If, a Loop, a Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def reads(node: Any) -> tuple[str, ...]:
    """The values that a node takes, each once; those that its subgraphs take from outside too."""
    found = dict.fromkeys(name for name in node.input if name)
    for inner in subgraphs(node):
        own = {t.name for t in inner.initializer} | {v.name for v in inner.input}
        for part in inner.node:
            found |= dict.fromkeys(name for name in reads(part) if name not in own)
            own |= set(part.output)
        found |= dict.fromkeys(v.name for v in inner.output if v.name not in own)
    return tuple(found)
