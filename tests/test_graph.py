"""ONNX graphs: broken and hostile files are refused, digests see what counts and nothing else."""

from __future__ import annotations

import hashlib
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import content, graph, tensors, testing
from accel.errors import BadModel

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3) / 8


def build() -> Any:
    """If(c, x + 1, scaled(x, alpha=2) + x) @ w: a subgraph each way, a function, a weight."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    one = numpy_helper.from_array(np.float32(1).reshape(1), "one")
    inner = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 2]) for n in ("t", "e")]
    then = helper.make_graph([helper.make_node("Add", ["x", "one"], ["t"])], "then", [], inner[:1], [one])  # fmt: skip
    scale = helper.make_node("scaled", ["x"], ["s"], domain="own")
    other = helper.make_graph(
        [scale, helper.make_node("Add", ["s", "x"], ["e"])], "else", [], inner[1:]
    )
    nodes = [
        helper.make_node("If", ["c"], ["h"], name="if", then_branch=then, else_branch=other),
        helper.make_node("MatMul", ["h", "w"], ["p"], name="product"),
        helper.make_node("LeakyRelu", ["p"], ["l"], name="leaky", alpha=0.25),
        helper.make_node("Identity", ["l"], ["y"], name="end"),
    ]
    two = helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2)))
    function = helper.make_function(
        "own", "scaled", ["a"], ["b"], [two, helper.make_node("Mul", ["a", "two"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    made = helper.make_graph(nodes, "g", [x, c], [y], [numpy_helper.from_array(WEIGHTS, "w")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(made, opset_imports=opsets, functions=[function], ir_version=8)


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The bytes of a good file."""
    onnx.save(build(), tmp_path / "whole.onnx")
    graph.open_model(tmp_path / "whole.onnx")
    return (tmp_path / "whole.onnx").read_bytes()


def zipped() -> bytes:
    """What torch.save writes, from outside."""
    import io

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    return stream.getvalue()


STRANGERS = {
    "empty": (b"", "is empty"),
    "html": (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
    "html without a doctype": (b"<html><body>", "an HTML page"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "pickle 2": (pickle.dumps({"a": 1}, protocol=2), "a Python pickle"),
    "pickle 4": (pickle.dumps({"a": 1}, protocol=4), "a Python pickle"),
    "pickle 5": (pickle.dumps({"a": 1}, protocol=5), "a Python pickle"),
    "zip": (zipped(), "a zip archive"),
    "text": (b"import torch\nprint(torch)\n", "is not a"),
    "json": (b'{"schema": 1}', "is not a"),
    "zeros": (bytes(1000), "is not a"),
    "random": (random.Random(0).randbytes(5000), "is not a"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_not_a_graph(tmp_path: Path, name: str) -> None:
    """A foreign file is named for what it is, or at least refused."""
    content, said = STRANGERS[name]
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(BadModel, match=said) as caught:
        graph.open_model(tmp_path / "m.onnx")
    assert "m.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_and_nothing(tmp_path: Path) -> None:
    """A folder and an absent path are not files."""
    for path in (tmp_path, tmp_path / "absent.onnx"):
        with pytest.raises(BadModel, match="is not a file"):
            graph.open_model(path)


def test_cut_anywhere(tmp_path: Path) -> None:
    """A download that stopped early, at any byte, is never taken for a model."""
    whole = testing.mlp(tmp_path / "whole.onnx").path.read_bytes()
    for end in range(len(whole)):
        (tmp_path / "m.onnx").write_bytes(whole[:end])
        with pytest.raises(BadModel):
            graph.open_model(tmp_path / "m.onnx")


def test_flipped_bytes(tmp_path: Path, whole: bytes) -> None:
    """A damaged file opens or is a BadModel; no foreign exception comes out."""
    draw, refused = random.Random(1), 0
    for _ in range(400):
        data = bytearray(whole)
        data[draw.randrange(len(data))] = draw.randrange(256)
        (tmp_path / "m.onnx").write_bytes(data)
        try:
            graph.describe(tmp_path / "m.onnx")
        except BadModel:
            refused += 1
    assert refused > 100


def dangling(m: Any) -> None:
    m.graph.node[1].input[0] = "nowhere"


def unsorted(m: Any) -> None:
    nodes = list(m.graph.node)[::-1]
    del m.graph.node[:]
    m.graph.node.extend(nodes)


def no_nodes(m: Any) -> None:
    del m.graph.node[:]
    m.graph.output[0].name = "x"


def twice(m: Any) -> None:
    m.graph.node[3].output[0] = "p"


def no_opset(m: Any) -> None:
    del m.opset_import[:]


def unknown_operator(m: Any) -> None:
    m.graph.node[3].op_type = "Frobnicate"


def short_weight(m: Any) -> None:
    m.graph.initializer[0].raw_data = b"1234"


def unknown_dtype(m: Any) -> None:
    m.graph.initializer[0].data_type = 77


@pytest.mark.parametrize(
    "edit",
    [dangling, unsorted, no_nodes, twice, no_opset, unknown_operator, short_weight, unknown_dtype],
)
def test_graphs_that_make_no_sense(tmp_path: Path, edit: Callable[[Any], None]) -> None:
    """A file that parses but cannot run is refused when it is opened."""
    made = build()
    edit(made)
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(BadModel):
        graph.open_model(tmp_path / "m.onnx")


def beside(folder: Path, location: str = "w.bin") -> Path:
    """The graph with its weight in another file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "m.onnx"
    onnx.save(build(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    made = onnx.load(path, load_external_data=False)
    for tensor in tensors.within(made.graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize("place", ["missing", "cut", "above", "absolute", "link", "linked folder"])
def test_external_data_is_jailed(tmp_path: Path, place: str) -> None:
    """Weights that are absent, cut or outside the graph's own folder are never read or copied."""
    (tmp_path / "secret").mkdir()
    secret = tmp_path / "secret" / "w.bin"
    locations = {
        "above": "../secret/w.bin", "absolute": str(secret), "linked folder": "sub/w.bin",
    }  # fmt: skip
    path = beside(tmp_path / "model", locations.get(place, "w.bin"))
    weights = tmp_path / "model" / "w.bin"
    secret.write_bytes(weights.read_bytes())
    if place == "cut":
        weights.write_bytes(weights.read_bytes()[:-3])
    else:
        weights.unlink()
    if place == "link":
        weights.symlink_to(secret)
    if place == "linked folder":
        (tmp_path / "model" / "sub").symlink_to(secret.parent)
    with pytest.raises(BadModel):
        graph.open_model(path)
    if place in ("above", "absolute", "link", "linked folder"):
        with pytest.raises(BadModel, match="outside its folder"):
            graph.copy(path, tmp_path / "copy" / "m.onnx")
        assert not list((tmp_path / "copy").glob("*.bin"))


@pytest.mark.parametrize("location", ["w.bin", "weights/w.bin"])
def test_copy_takes_the_weights_along(tmp_path: Path, location: str) -> None:
    """External data lands beside the copy under its own name, and the copy is the same model."""
    path = beside(tmp_path / "model", location)
    if location != "w.bin":
        (tmp_path / "model" / "weights").mkdir()
        (tmp_path / "model" / "w.bin").rename(tmp_path / "model" / location)
    copied = graph.copy(path, tmp_path / "copy" / "other.onnx")
    assert graph.external_data(copied) == (location,)
    before = graph.digest(graph.open_model(path))
    (tmp_path / "model" / location).unlink()
    assert graph.digest(graph.open_model(copied)) == before


def test_copy_reaches_into_functions(tmp_path: Path) -> None:
    """A constant inside a function may lie in a file too."""
    made = build()
    tensor = made.functions[0].node[0].attribute[0].t
    (tmp_path / "f.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "f.bin")
    tensor.ClearField("raw_data")
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    assert graph.external_data(tmp_path / "m.onnx") == ("f.bin",)
    graph.copy(tmp_path / "m.onnx", tmp_path / "copy" / "m.onnx")
    assert (tmp_path / "copy" / "f.bin").is_file()


def first_attribute(m: Any, name: str) -> Any:
    return next(a for n in m.graph.node for a in n.attribute if a.name == name)


def attribute(m: Any) -> None:
    first_attribute(m, "alpha").f = 0.26


def weight_byte(m: Any) -> None:
    data = bytearray(m.graph.initializer[0].raw_data)
    data[5] ^= 1
    m.graph.initializer[0].raw_data = bytes(data)


def opset(m: Any) -> None:
    m.opset_import[0].version = 18


def port_name(m: Any) -> None:
    m.graph.output[0].name = m.graph.node[3].output[0] = "z"


def port_dtype(m: Any) -> None:
    m.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def port_shape(m: Any) -> None:
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def weight_dtype(m: Any) -> None:
    m.graph.initializer[0].data_type = TensorProto.INT32


def weight_shape(m: Any) -> None:
    m.graph.initializer[0].dims[:] = [3, 2]


def initializer_name(m: Any) -> None:
    m.graph.initializer[0].name = m.graph.node[1].input[1] = "v"


def operator(m: Any) -> None:
    m.graph.node[3].op_type = "Neg"


def node_domain(m: Any) -> None:
    m.graph.node[3].domain = "own"


def inputs_swapped(m: Any) -> None:
    m.graph.node[1].input[:] = ["w", "h"]


def in_the_subgraph(m: Any) -> None:
    first_attribute(m, "then_branch").g.node[0].op_type = "Sub"


def weight_in_the_subgraph(m: Any) -> None:
    first_attribute(m, "then_branch").g.initializer[0].raw_data = np.float32(3).tobytes()


def in_the_function(m: Any) -> None:
    m.functions[0].node[1].op_type = "Div"


def constant_in_the_function(m: Any) -> None:
    m.functions[0].node[0].attribute[0].t.raw_data = np.float32(3).tobytes()


def one_node_less(m: Any) -> None:
    m.graph.node[2].output[0] = "y"
    del m.graph.node[3]


def shape_notes(m: Any) -> None:
    note = helper.make_tensor_value_info("p", TensorProto.FLOAT, ["batch", 3])
    m.graph.value_info.append(note)


SEMANTIC = [
    attribute, weight_byte, opset, port_name, port_dtype, port_shape, weight_dtype, weight_shape,
    initializer_name, operator, node_domain, inputs_swapped, in_the_subgraph,
    weight_in_the_subgraph, in_the_function, constant_in_the_function, one_node_less, unsorted,
    shape_notes,
]  # fmt: skip


def test_the_digest_sees_every_semantic_edit() -> None:
    """Each edit of what is computed gives a digest of its own."""
    found = {"as built": graph.digest(build())}
    for edit in SEMANTIC:
        made = build()
        edit(made)
        found[edit.__name__] = graph.digest(made)
    assert len(set(found.values())) == len(found), found


def doc_strings(m: Any) -> None:
    m.doc_string = m.graph.doc_string = m.functions[0].doc_string = "words"
    for node in graph.walk(m):
        node.doc_string = "words"
        for one in node.attribute:
            one.doc_string = "words"
    for value in (*m.graph.input, *m.graph.output, *m.graph.initializer):
        value.doc_string = "words"
    first_attribute(m, "then_branch").g.initializer[0].doc_string = "words"


def producer(m: Any) -> None:
    m.producer_name, m.producer_version, m.domain = "someone", "7", "com.example"


def metadata(m: Any) -> None:
    note = onnx.StringStringEntryProto(key="author", value="me")
    parts = (m, m.graph, m.functions[0], *graph.walk(m), *m.graph.input, *m.graph.initializer)
    for part in parts:
        part.metadata_props.append(note)


def typed_data(m: Any) -> None:
    for tensor in tensors.every(m):
        if tensor.raw_data:
            array = numpy_helper.to_array(tensor)
            tensor.ClearField("raw_data")
            tensor.float_data.extend(array.ravel().tolist())


@pytest.mark.parametrize("edit", [doc_strings, producer, metadata, typed_data])
def test_the_digest_is_blind_to_cosmetics(edit: Callable[[Any], None]) -> None:
    """Words, origin and storage of equal content change nothing."""
    made = build()
    edit(made)
    assert made.SerializeToString() != build().SerializeToString()
    assert graph.digest(made) == graph.digest(build())


def test_the_digest_is_blind_to_where_weights_lie(tmp_path: Path) -> None:
    """Inside the file or beside it: the same model; and asking does not change what was asked."""
    made = build()
    before = made.SerializeToString()
    assert graph.describe(beside(tmp_path)).digest == graph.digest(made)
    assert made.SerializeToString() == before


def test_the_digest_is_that_of_one_message() -> None:
    """Made of pieces, it is the sha256 of the whole model, serialised with nothing cosmetic in it."""
    made = build()
    for name in content.COSMETIC:
        made.ClearField(name)
    for tensor in tensors.every(made):
        tensor.name = tensor.name or ""  # a constant's is written too
    whole = made.SerializeToString(deterministic=True)
    assert graph.digest(build()) == hashlib.sha256(whole).hexdigest()


def test_the_digest_needs_no_weight_in_memory(tmp_path: Path) -> None:
    """What lies beside and was not read counts as if it had been; without its file it cannot be told."""
    path = beside(tmp_path)
    assert graph.digest(graph.checked(path), path) == graph.digest(build())
    with (tmp_path / "w.bin").open("r+b") as stream:
        stream.write(b"\x01")
    assert graph.digest(graph.checked(path), path) != graph.digest(build())
    proto = graph.checked(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(BadModel, match="not beside it"):
        graph.digest(proto, path)


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT16", "INT8", "INT4", "BOOL", "STRING"])
def test_the_digest_knows_every_dtype(kind: str) -> None:
    """Tensors of unusual types are digested, and their content counts."""
    found = set()
    for value in (0, 1):
        made = build()
        number = getattr(TensorProto, kind)
        values = [b"a", b"b"][value : value + 1] if kind == "STRING" else [value]
        made.graph.initializer.append(helper.make_tensor("extra", number, [1], values))
        found.add(graph.digest(made))
    assert len(found) == 2


def test_walk_reaches_everything() -> None:
    """Nodes of both branches and of functions are met, and counted under their domain."""
    assert [n.op_type for n in graph.walk(build())] == [
        "If", "scaled", "Add", "Add", "MatMul", "LeakyRelu", "Identity", "Constant", "Mul",
    ]  # fmt: skip
    assert graph.operators(build())["own.scaled"] == 1
    assert graph.operators(build())["Add"] == 2


def test_describe_and_census(tmp_path: Path) -> None:
    """Ports with symbols, parameters and dtypes are read back; weights are no inputs."""
    onnx.save(build(), tmp_path / "m.onnx")
    model = graph.describe(tmp_path / "m.onnx", ("made",))
    assert [(p.name, p.dtype, p.shape) for p in (*model.inputs, *model.outputs)] == [
        ("x", "float32", ("batch", 2)), ("c", "bool", ()), ("y", "float32", ("batch", 3)),
    ]  # fmt: skip
    assert model.trail == ("made",)
    assert graph.parameters(build()) == 6
    assert graph.dtype_census(build()) == {"float32": 6}


def test_save_keeps_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model too large for protobuf gets its weights beside it, and is the same model."""
    path = testing.mlp(tmp_path / "small.onnx", width=64).path
    proto = graph.open_model(path)
    digest = graph.digest(proto)
    graph.save(proto, tmp_path / "inline.onnx")
    assert graph.external_data(tmp_path / "inline.onnx") == ()
    monkeypatch.setattr(graph, "INLINE_LIMIT_BYTES", 1000)
    graph.save(proto, tmp_path / "large.onnx")
    assert graph.external_data(tmp_path / "large.onnx") == ("large.onnx.data",)
    for name in ("inline.onnx", "large.onnx"):
        assert graph.digest(graph.open_model(tmp_path / name)) == digest
