"""Weights that are said to lie in another file: which file may be read, and what of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.hostile.case import Case, Made, X, Y, dense, model, node, weight
from tests.hostile.structures import FORGED
from tests.legality.building import F

OUTSIDE = ("outside its folder",)
SECRET = b"SECRET**" * 8  # 64 bytes, as many as the weight has


def outside(tensor: Any, location: str = "w.bin", **told: Any) -> None:
    """The tensor's values lie in that file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **told}.items():
        tensor.external_data.add(key=key, value=str(value))


def _beside(
    prepare: Callable[[Path], None] = lambda _: None,
    location: str = "w.bin",
    content: bytes | None = None,
    proto: Any = None,
    **told: Any,
) -> Made:
    """model/m.onnx, its weight in `location`; `prepare` has the folder of both."""

    def make(folder: Path) -> Path:
        home = folder / "model"
        home.mkdir()
        (folder / "secret.bin").write_bytes(SECRET)
        made = proto or dense()
        own = made.graph.initializer[0]
        values = own.raw_data or np.ones(16, np.float32).tobytes()
        (home / "w.bin").write_bytes(values if content is None else content)
        if proto is None:
            outside(own, location, **told)
        (home / "m.onnx").write_bytes(made.SerializeToString())
        prepare(home)
        return home / "m.onnx"

    return make


def _absolute(folder: Path) -> Path:
    return _beside(location=str(folder / "secret.bin"))(folder)


def _replaced(by: Callable[[Path], None]) -> Made:
    def prepare(home: Path) -> None:
        (home / "w.bin").unlink()
        by(home)

    return _beside(prepare)


def _folder_link(home: Path) -> None:
    (home / "sub").symlink_to(home.parent)


def _hard(home: Path) -> None:
    os.link(home.parent / "secret.bin", home / "w.bin")


def cases() -> Iterator[Case]:
    """Anything but a plain file below the model's folder that holds the values is refused."""
    named = _beside(lambda home: (home / "w.bin").rename(home / "model.onnx"), "model.onnx")
    swap = ("export", "model/{}", "--out", "made.onnx")
    yield Case(
        "external data that takes the model's place", named, says=("another name",), command=swap
    )
    yield Case("external data read a hundred times", _many(_hundred()), says=("reads 1677721600 bytes of weights out of 16777216",))  # fmt: skip
    for case in (*_jail(), *_bounds(), *_hidden()):
        yield Case(case.name, case.make, case.verdict, case.says, ("inspect", "model/{}"))


def _jail() -> Iterator[Case]:
    yield Case("external data absent", _replaced(lambda _: None), says=("not beside it",))
    yield Case("external data above", _beside(location="../secret.bin"), says=OUTSIDE)
    yield Case("external data above:around", _beside(location="x/../../secret.bin"), says=OUTSIDE)
    yield Case("external data above:and back", _beside(location="../model/w.bin"), says=OUTSIDE)
    yield Case("external data absolute", _absolute, says=OUTSIDE)
    yield Case("external data absolute:passwords", _beside(location="/etc/passwd"), says=OUTSIDE)
    yield Case("external data by a link", _replaced(lambda home: (home / "w.bin").symlink_to("../secret.bin")), says=OUTSIDE)  # fmt: skip
    yield Case("external data by a link:inside", _beside(lambda home: (home / "v.bin").symlink_to("w.bin"), "v.bin"), says=("no plain file",))  # fmt: skip
    yield Case("external data by a linked folder", _beside(_folder_link, "sub/secret.bin"), says=OUTSIDE)  # fmt: skip
    yield Case("external data by a hard link", _replaced(_hard), says=("hard links",))
    yield Case("external data in a pipe", _replaced(lambda home: os.mkfifo(home / "w.bin")), says=("no plain file",))  # fmt: skip
    yield Case("external data in a folder", _replaced(lambda home: (home / "w.bin").mkdir()), says=("no plain file",))  # fmt: skip
    yield Case("external data without a place", _beside(location=""), says=("m.onnx",))
    yield Case("external data in the folder itself", _beside(location="."), says=("m.onnx",))
    yield Case("external data with a zero in its name", _beside(location="w\0.bin"), says=("m.onnx",))  # fmt: skip
    yield Case("external data with a long name", _beside(location="w" * 5000), says=("m.onnx",))
    yield Case("external data with a long name:for a disk", _beside(location="w" * 300), says=("cannot be looked at",))  # fmt: skip
    yield Case("external data by a link:to itself", _replaced(lambda home: (home / "w.bin").symlink_to("w.bin")), says=("m.onnx",))  # fmt: skip
    yield Case("external data that steers", _beside(location="\x1b[2J"), says=("\\x1b[2J",))


def _bounds() -> Iterator[Case]:
    yield Case("external data truncated", _beside(content=bytes(61)), says=("which has 61",))
    yield Case("external data truncated:empty", _beside(content=b""), says=("which has 0",))
    yield Case("external data truncated:of a forged name", _beside(proto=_forged(), content=bytes(61)), says=("keeps y\\naccel: intact in", "which has 61"))  # fmt: skip
    yield Case("external data out of range", _beside(offset=4096), says=("4096 to 4160",))
    yield Case("external data out of range:far", _beside(offset=2**63, length=64), says=("which has 64",))  # fmt: skip
    yield Case("external length too short", _beside(length=60), says=("64 bytes, but 60",))
    yield Case("external length too long", _beside(length=1 << 40), says=("but 1099511627776",))
    for text in ("-64", "0x10", "1e3", "", "9" * 5000, "²"):
        yield Case(f"external offset that is no number:{text[:5]}", _beside(offset=text), says=("not a number",))  # fmt: skip
    yield Case("external data of 2^62 elements", _beside(proto=_huge()), says=("which has 64",))
    yield Case("external data with strange keys", _beside(__class__="x", offset=0), "accept", ("parameters: 16",))  # fmt: skip


def _forged() -> Any:
    made = dense()
    made.graph.initializer[0].name = made.graph.node[0].input[1] = FORGED
    outside(made.graph.initializer[0])
    return made


def _huge() -> Any:
    made = dense()
    made.graph.initializer[0].dims[:] = [2**62]
    outside(made.graph.initializer[0])
    return made


def _hidden() -> Iterator[Case]:
    """The same leak, in every other place where a tensor may stand."""
    name = "external data above"
    for where, proto in _places():
        yield Case(f"{name}:{where}", _beside(proto=proto), says=OUTSIDE)


def _places() -> Iterator[tuple[str, Any]]:
    stolen = weight("v", np.ones((4, 4)))
    outside(stolen, "../secret.bin")
    constant = node("Constant", "", "v", value=stolen)
    inner = [constant, node("MatMul", "x v", "t")]
    yield "in a constant", _with([constant, node("MatMul", "x v", "y")])
    branches = {
        "then_branch": helper.make_graph(inner, "then", [], [_out("t")]),
        "else_branch": helper.make_graph([node("Abs", "x", "e")], "else", [], [_out("e")]),
    }
    condition = helper.make_node("Constant", [], ["c"], value=weight("c", True, "bool"))
    yield "in a branch", _with([condition, node("If", "c", "y", **branches)])
    function = helper.make_function("own", "f", ["x"], ["t"], inner, [helper.make_opsetid("", 17)])
    called = [node("f", "x", "y", domain="own")]
    yield "in a function", _with(called, functions=[function], domains=["own"])
    sparse = _with([node("MatMul", "x v", "y")])
    values, at = weight("v", np.ones(16)), numpy_helper.from_array(np.arange(16), "at")
    outside(values, "../secret.bin")
    sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [4, 4]))
    yield "in a sparse weight", sparse
    held = helper.make_node(
        "Constant", [], ["v"], sparse_value=helper.make_sparse_tensor(values, at, [4, 4])
    )
    yield "in a sparse constant", _with([held, node("MatMul", "x v", "y")])


def _out(name: str) -> Any:
    return helper.make_tensor_value_info(name, F, [2, 4])


def _with(nodes: list[Any], **more: Any) -> Any:
    return model(nodes, [X], [Y], [weight("unread", np.ones(16))], **more)


def _many(proto: Any) -> Made:
    """A megabyte beside the model, which a hundred weights of it read whole."""

    def make(folder: Path) -> Path:
        with (folder / "w.bin").open("wb") as stream:
            stream.truncate(16 << 20)
        (folder / "m.onnx").write_bytes(proto.SerializeToString())
        return folder / "m.onnx"

    return make


def _hundred() -> Any:
    made = dense()
    for i in range(100):
        one = TensorProto(name=f"w{i}", data_type=F, dims=[4 << 20])
        outside(one)
        made.graph.initializer.append(one)
    return made
