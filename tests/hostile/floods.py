"""Graphs of a few bytes a thing, and of millions of things."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.hostile.case import Case, Made, X, Y, body, model, node, relu, truth, weight
from tests.hostile.structures import endless
from tests.legality.building import F

FEW, MANY = 4_000_000, 20_000_000  # empty messages, of two bytes each
MODEL_GRAPH, MODEL_FUNCTION = b"\x3a", b"\xca\x01"  # tags
GROUP = b"\xf3\x01\xf4\x01"  # begins and ends: nothing that ONNX has
WEIGHTS, BRANCHES = 30_000, 5_000


def sized(content: bytes) -> bytes:
    """Behind its length."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes((size & 127 | 128,)), size >> 7
    return length + bytes((size,)) + content


def flood(tag: bytes, number: int = FEW, within: bytes = b"", before: bytes = b"") -> Made:
    """A good graph, and so many empty messages: of the graph, or of the field of it that `within` begins."""

    def make(folder: Any) -> Any:
        content = (tag + b"\x00") * number
        content = within + sized(content) if within else content
        whole = relu().SerializeToString() + before + MODEL_GRAPH + sized(content)
        (folder / "m.onnx").write_bytes(whole)
        return folder / "m.onnx"

    return make


def _in_function(folder: Any) -> Any:
    content = MODEL_FUNCTION + sized(b"\x0a\x01f" + b"\x3a\x00" * FEW)
    (folder / "m.onnx").write_bytes(relu().SerializeToString() + content)
    return folder / "m.onnx"


def _in_branch(tag: bytes, number: int = FEW) -> Made:
    """In the graph of a node's attribute."""

    def make(folder: Any) -> Any:
        attribute = b"\x0a\x01b\xa0\x01\x05" + b"\x32" + sized((tag + b"\x00") * number)
        content = b"\x0a" + sized(b"\x22\x02If" + b"\x2a" + sized(attribute))
        whole = relu().SerializeToString() + MODEL_GRAPH + sized(content)
        (folder / "m.onnx").write_bytes(whole)
        return folder / "m.onnx"

    return make


def cases() -> Iterator[Case]:
    """Refused before they are parsed; the last are looked at in time."""
    said = ("over 3,000,000 messages",)
    yield Case("messages without end", flood(b"\x6a", MANY), says=said)
    for name, tag in (("weights", b"\x2a"), ("inputs", b"\x5a"), ("sparse", b"\x7a"), ("nodes", b"\x0a")):  # fmt: skip
        yield Case(f"messages without end:{name}", flood(tag), says=said)
    yield Case("messages without end:attributes", flood(b"\x2a", within=b"\x0a"), says=said)
    yield Case("messages without end:behind a group", flood(b"\x6a", before=GROUP), says=said)
    yield Case("messages without end:in a function", _in_function, says=said)
    for name, tag in (("nodes", b"\x0a"), ("weights", b"\x2a")):
        yield Case(f"messages without end:{name} of a branch", _in_branch(tag), says=said)
    nodes = _in_branch(b"\x0a", 500_001)
    yield Case("nodes without end:in a branch", nodes, says=("over 500,000 nodes",))
    yield Case("weights beside branches", _branches, "report", ("never ends",))


def _branches(folder: Any) -> Any:
    """Many weights, many Ifs, and a Loop without an end."""
    then, other = (body([node("Relu", "x", "t")], [], [("t", F, [2, 4])]) for _ in "ab")
    made = model(
        [node("If", "c", "y", then_branch=then, else_branch=other)],
        [X, truth()],
        [Y],
        [weight(f"w{i}", 0) for i in range(WEIGHTS)],
    )
    made.graph.node.extend([made.graph.node[0]] * (BRANCHES - 1))
    for i, one in enumerate(made.graph.node[1:]):
        one.name, one.output[0] = f"if_{i}", f"y{i}"
    loop = endless().graph
    made.graph.node.append(loop.node[0])
    made.graph.node[-1].output[0] = "z"
    made.graph.initializer.extend(loop.initializer)
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    return folder / "m.onnx"
