"""Graphs that parse and make no sense, or that each runtime reads in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import TensorProto, helper

from tests.hostile.case import Case, X, Y, body, dense, graph, model, node, relu, truth, weight
from tests.legality.building import F

I64 = TensorProto.INT64
RED, BELL = "\x1b[31mred", "\x07bell\x9b2J"
FORGED = "y\naccel: intact"
FUTURE = 99


def _function(name: str, calls: str, domain: str = "own") -> Any:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = helper.make_node(calls, ["a"], ["b"], domain="own" if calls in "fg" else "")
    return helper.make_function(domain, name, ["a"], ["b"], [inner], imports)


def _called(*functions: Any) -> Any:
    return model(
        [node("f", "x", "y", domain="own")], [X], [Y], domains=["own"], functions=functions
    )


def nested(levels: int) -> Any:
    """If in If: the then branch of each holds the next."""
    inner = body([node("Relu", "x", "r0")], [], [("r0", F, [2, 4])])
    for i in range(1, levels):
        other = body([node("Abs", "x", f"e{i}")], [], [(f"e{i}", F, [2, 4])])
        branch = node("If", "c", f"r{i}", then_branch=inner, else_branch=other)
        inner = body([branch], [], [(f"r{i}", F, [2, 4])])
    last = [*inner.node, node("Relu", f"r{levels - 1}", "y")]
    return model(last, [X, truth()], [Y])


def _unsorted(m: Any) -> None:
    nodes = list(m.graph.node)[::-1]
    del m.graph.node[:]
    m.graph.node.extend(nodes)


def _imports(*entries: tuple[str, int]) -> Any:
    def edit(m: Any) -> None:
        del m.opset_import[:]
        m.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in entries)

    return edit


def _set(path: str, value: Any) -> Any:
    """graph.node.0.op_type = value."""
    *steps, last = path.split(".")

    def edit(m: Any) -> None:
        for step in steps:
            m = m[int(step)] if step.isdigit() else getattr(m, step)
        if last.isdigit():
            m[int(last)] = value
        else:
            setattr(m, last, value)

    return edit


def _clear(name: str) -> Any:
    return lambda m: m.ClearField(name)


def _wild(proto: Any, old: bytes, new: bytes) -> Any:
    """Bytes that protobuf would not write."""

    def make(folder: Any) -> Any:
        (folder / "m.onnx").write_bytes(proto.SerializeToString().replace(old, new))
        return folder / "m.onnx"

    return make


def cases() -> Iterator[Case]:
    """Refused, but for the last: what is legal and seldom meant is reported."""
    yield from _flow()
    yield from _versions()
    yield from _operators()
    yield from _nested()
    yield from _names()
    yield from _reported()


def _flow() -> Iterator[Case]:
    circle = model(
        [node("Add", "x b", "a"), node("Abs", "a", "b"), node("Relu", "b", "y")], [X], [Y]
    )
    itself = model([node("Add", "x a", "a"), node("Relu", "a", "y")], [X], [Y])
    twice = model([node("Relu", "x", "y"), node("Abs", "x", "y")], [X], [Y])
    inside = body([node("Add", "x nowhere", "t")], [], [("t", F, [2, 4])])
    other = body([node("Abs", "x", "e")], [], [("e", F, [2, 4])])
    branch = model([node("If", "c", "y", then_branch=inside, else_branch=other)], [X, truth()], [Y])
    yield Case(
        "branch without a name",
        graph(branch, _set("graph.node.0.attribute.0.g.name", "")),
        says=("name",),
    )
    yield Case("cyclic", graph(circle), says=("round in a circle",))
    yield Case("self-loop", graph(itself), says=("round in a circle",))
    yield Case("dangling input", graph(relu(), _set("graph.node.1.input.0", "nowhere")), says=("nowhere, which nothing makes",))  # fmt: skip
    yield Case("dangling in a branch", graph(branch), says=("nowhere",))
    yield Case("unsorted", graph(relu(), _unsorted), says=("not sorted",))
    yield Case("output made twice", graph(twice), says=("used as output names multiple times",))
    yield Case("initializer twice", graph(dense(), lambda m: m.graph.initializer.append(m.graph.initializer[0])), says=("w initializer name is not unique",))  # fmt: skip
    yield Case("input twice", graph(relu(), lambda m: m.graph.input.append(m.graph.input[0])), says=("graph input names multiple times",))  # fmt: skip
    yield Case("output that nothing makes", graph(relu(), _set("graph.output.0.name", "z")), says=("z",))  # fmt: skip
    yield Case("no operators", graph(relu(), lambda m: m.graph.ClearField("node")), says=("holds no operators",))  # fmt: skip
    yield Case("no graph", graph(relu(), _clear("graph")), says=("holds no operators",))


def _versions() -> Iterator[Case]:
    yield Case("opset missing", graph(relu(), _imports()), says=("opset_import",))
    yield Case("opset zero", graph(relu(), _imports(("", 0))), says=("opset 0",))
    yield Case("opset below zero", graph(relu(), _imports(("", -3))), says=("opset -3",))
    yield Case("opset twice", graph(relu(), _imports(("", 17), ("", 11))), says=("two opsets of ai.onnx: 17 and 11",))  # fmt: skip
    yield Case("opset twice:by its other name", graph(relu(), _imports(("", 17), ("ai.onnx", 11))), says=("two opsets",))  # fmt: skip
    newest = onnx.defs.onnx_opset_version()
    for version in (newest + 1, FUTURE, 2**62):
        said = (f"opset {version}", "pip install -U onnx")
        yield Case(f"opset of the future:{version}", graph(relu(), _imports(("", version))), says=said)  # fmt: skip
    yield Case("IR of the future", graph(relu(), _set("ir_version", FUTURE)), says=("ir_version 99",))  # fmt: skip
    yield Case("IR missing", graph(relu(), _clear("ir_version")), says=("ir_version",))


def _operators() -> Iterator[Case]:
    unknown = model([node("Foo", "x", "y", domain="my.own")], [X], [Y])
    old = model([node("Upsample", "x s", "y")], [X], [Y], [weight("s", [1, 2])], opset=11, ir=6)
    frob = model([node("Relu", "x", "y", frob=3)], [X], [Y])
    leaky = model([node("LeakyRelu", "x", "y", alpha=0.1)], [X], [Y])
    yield Case("domain that is not imported", graph(unknown), says=("my.own",))
    yield Case("unknown operator", graph(relu(), _set("graph.node.0.op_type", "Frob")), says=("Frob",))  # fmt: skip
    yield Case("operator that is gone", graph(old), says=("Upsample is deprecated",))
    yield Case("unknown attribute", graph(frob), says=("frob",))
    yield Case("attribute twice", graph(leaky, lambda m: m.graph.node[0].attribute.append(m.graph.node[0].attribute[0])), says=("alpha",))  # fmt: skip
    yield Case("attribute without a type", graph(leaky, lambda m: m.graph.node[0].attribute[0].ClearField("type")), says=("type",))  # fmt: skip
    yield Case("attribute of another type", graph(leaky, _set("graph.node.0.attribute.0.type", 2)), says=("alpha",))  # fmt: skip
    yield Case("too many inputs", graph(relu(), lambda m: m.graph.node[0].input.extend(["x"] * 9)), says=("Relu",))  # fmt: skip
    yield Case("no output", graph(relu(), lambda m: m.graph.node[1].ClearField("output")), says=("m.onnx",))  # fmt: skip
    yield Case("If without a branch", graph(model([node("If", "c", "y")], [truth()], [Y])), says=("else_branch",))  # fmt: skip


def _nested() -> Iterator[Case]:
    said = ("f leads to itself",)
    yield Case("recursive function", graph(_called(_function("f", "f"))), says=said)
    both = _called(_function("f", "g"), _function("g", "f"))
    yield Case("functions that call one another", graph(both), says=("leads to itself",))
    yield Case("functions in a long chain", graph(relu(), _chain), says=("m.onnx",))
    flood = graph(relu(), lambda m: m.functions.extend([_function("f", "Relu")] * 10_001))
    yield Case("functions without end", flood, says=("10,001 functions",))
    yield Case("nodes without end", graph(relu(), lambda m: m.graph.node.extend([onnx.NodeProto()] * 500_001)), says=("500,003 nodes",))  # fmt: skip
    yield Case("function twice", graph(_called(*[_function("f", "Relu")] * 2)), says=("own::f",))
    unread = graph(relu(), lambda m: m.functions.extend([_function("f", "Relu")] * 2))
    yield Case("function twice:that nothing calls", unread, says=("own::f stands twice",))
    alias = graph(relu(), lambda m: m.functions.extend(_function("f", "Relu", d) for d in ("", "ai.onnx")))  # fmt: skip
    yield Case("function twice:by its domain's other name", alias, says=("ai.onnx::f stands twice",))  # fmt: skip
    again = graph(relu(), lambda m: m.functions.append(_function("Relu", "Relu", "ai.onnx")))
    yield Case("recursive function:by its domain's other name", again, says=("Relu leads to itself",))  # fmt: skip
    for levels in (40, 200, 2000):
        yield Case(f"nested Ifs:{levels}", _deep(levels), says=("too deep in one another",))


def _chain(made: Any) -> None:
    """Nearly as many functions as onnx reads, each of which calls the next."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made.opset_import.append(helper.make_opsetid("own", 1))
    made.graph.node[0].op_type, made.graph.node[0].domain = "f0", "own"
    for i in range(9_999):
        last = helper.make_node(f"f{i + 1}", ["a"], ["b"], domain="own")
        inner = last if i < 9_998 else helper.make_node("Relu", ["a"], ["b"])
        made.functions.append(helper.make_function("own", f"f{i}", ["a"], ["b"], [inner], imports))


def _deep(levels: int) -> Any:
    """What `nested` makes, written by hand: protobuf writes no more levels than it reads."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes((size & 127 | 128,)), size >> 7
        return bytes((number << 3 | 2,)) + length + bytes((size,)) + content

    def make(folder: Any) -> Any:
        part = field(1, relu().graph.node[0].SerializeToString())  # GraphProto.node
        for _ in range(levels):
            attribute = field(1, b"then_branch") + field(6, part) + b"\xa0\x01\x05"  # g, type GRAPH
            part = field(1, field(1, b"c") + field(4, b"If") + field(5, attribute))
        (folder / "m.onnx").write_bytes(b"\x08\x08" + field(7, part))
        return folder / "m.onnx"

    return make


def _names() -> Iterator[Case]:
    for i, name in enumerate((RED, BELL, FORGED, "\u202egnp.exe")):
        plain = graph(relu(), _named(name))
        dangling = graph(relu(), _set("graph.node.1.input.0", name))
        shown = name.encode("unicode_escape").decode().split("\\n")[0][:6]
        yield Case(f"control characters in a port:{i}", plain, "accept", (shown,), terminal=i != 2)
        yield Case(f"control characters in a message:{i}", dangling, says=(shown,), terminal=i < 2)
    wild = _wild(relu(), b"\x01h", b"\x01\xff")
    yield Case("names that are not UTF-8", wild, says=("is not UTF-8",))


def _named(name: str) -> Any:
    def edit(m: Any) -> None:
        m.graph.output[0].name = m.graph.node[1].output[0] = name

    return edit


def _reported() -> Iterator[Case]:
    typed = model([node("Relu", "x", "a"), node("Abs", "a", "y")], [X], [Y])
    lie = helper.make_tensor_value_info("a", I64, [2, 4])
    fed = dense()
    fed.graph.input.append(helper.make_tensor_value_info("w", I64, [4, 4]))
    plugin = model([node("Foo", "x", "y", domain="my.own")], [X], [Y], domains=["my.own"])
    kind = "graph.output.0.type.tensor_type.elem_type"
    said = ("y is declared INT64, and is FLOAT",)
    yield Case("dtype lie", graph(typed, _set(kind, I64)), "report", said)
    yield Case("dtype lie:inside", graph(typed, lambda m: m.graph.value_info.append(lie)), "report", ("a is declared INT64",))  # fmt: skip
    yield Case("dtype lie:weight", graph(fed), "report", ("w is declared INT64, and is FLOAT",))
    yield Case("unknown domain", graph(plugin), "report", ("my.own.Foo is no operator of ONNX",))
    yield Case("endless Loop", graph(endless()), "report", ("never ends",))
    yield Case("condition of a stranger's Identity", graph(endless(), _stranger), "report", ("own.Identity",))  # fmt: skip
    yield Case("endless Loop:counted to no end", graph(endless(2**63 - 1)), "report", ("never ends",))  # fmt: skip


def endless(count: int | None = None) -> Any:
    """A Loop whose condition is handed on as it came in: true."""
    ports: list[Any] = [("i", I64, []), truth("go"), ("v", F, [2, 4])]
    inner = body(
        [node("Identity", "go", "on"), node("Relu", "v", "w")],
        ports,
        [truth("on"), ("w", F, [2, 4])],
    )
    weights = [weight("yes", True, "bool"), *([weight("n", count, "int64")] if count else [])]
    loop = node("Loop", f"{'n' if count else '_'} yes x", "y", body=inner)
    return model([loop], [X], [Y], weights)


def _stranger(made: Any) -> None:
    """What hands the condition on is another domain's, and takes nothing."""
    [inner] = [a.g for a in made.graph.node[0].attribute]
    inner.node[0].domain = "own"
    inner.node[0].ClearField("input")
    made.opset_import.append(helper.make_opsetid("own", 1))
