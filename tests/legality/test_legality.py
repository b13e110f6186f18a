"""The linter as a whole: clean graphs, merged findings, files that cannot be read, what fixes leave alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from accel import catalog, legality, shapes, testing
from accel.errors import BadModel
from accel.legality import _graph, _tensorrt, files, plugins
from accel.values import Request
from tests.legality.building import B, F, H, body, drawn, model, node, target, weight

DATA = os.environ.get("ACCEL_DATA")
X, Y = ("x", F, [2, 8]), ("y", F, [2, 8])
VERSIONS = ("10.3", "10.15", "11.0", "11.5", "")


def test_one_finding_for_many_places(tmp_path: Path) -> None:
    """Twelve nodes of one kind: the first three are named, the others are counted."""
    nodes = [node("Det", "x", f"d{i}", name=f"det_{i}") for i in range(12)]
    outputs = [(f"d{i}", F, [1]) for i in range(12)]
    onnx.save(model(nodes, [("x", F, [1, 2, 2])], outputs), tmp_path / "m.onnx")
    (found,) = legality.check(tmp_path / "m.onnx", target())
    assert found.where == "det_0, det_1, det_2 and 9 more"


def test_the_worst_comes_first(tmp_path: Path) -> None:
    """error, unknown, warning, note: whatever order the rules speak in."""
    nodes = [
        node("NonZero", "x", "n"),
        node("Det", "s", "d"),
        node("Strange", "x", "y", domain="other"),
    ]
    outputs = [("n", 7, [2, "k"]), ("d", F, [1]), Y]
    proto = model(nodes, [X, ("s", F, [1, 2, 2]), ("u", F, [1])], outputs, domains=["other"])
    onnx.save(proto, tmp_path / "m.onnx")
    levels = [f.level for f in legality.check(tmp_path / "m.onnx", target())]
    assert levels == sorted(levels, key=legality.LEVELS.index)
    assert set(levels) == set(legality.LEVELS)


def test_other_engines_rules_are_silent(tmp_path: Path) -> None:
    """What only TensorRT refuses is no finding for a target without it."""
    onnx.save(
        model([node("Det", "x", "y")], [("x", F, [1, 2, 2])], [("y", F, [1])]), tmp_path / "m.onnx"
    )
    assert legality.check(tmp_path / "m.onnx", target()) != ()
    assert legality.check(tmp_path / "m.onnx", target(engine="onnxruntime_cpu")) == ()


def test_a_cuda_kernel_that_waits_for_a_size_rules_out_cuda_graphs(tmp_path: Path) -> None:
    """NonMaxSuppression has one: it stays on the GPU, and its output's size depends on data."""
    outputs = [("n", 7, ["k", 3]), ("z", 7, [2, "l"])]
    nodes = [node("NonMaxSuppression", "b s", "n"), node("NonZero", "s", "z")]
    onnx.save(
        model(nodes, [("b", F, [1, 6, 4]), ("s", F, [1, 1, 6])], outputs), tmp_path / "m.onnx"
    )
    found = legality.check(tmp_path / "m.onnx", target(engine="onnxruntime_cuda"))
    assert {f.operator for f in found} == {"NonMaxSuppression", "NonZero"}
    assert all("depends on data; no CUDA graph" in f.message for f in found)


def test_an_operator_that_no_list_names_is_unknown(tmp_path: Path) -> None:
    """Not fine, and not refused: of all of ONNX's operators, each is in a list or unknown."""
    newest = onnx.defs.onnx_opset_version()
    names = {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}
    answers = {n: _tensorrt.supported(n, (10, 15)) for n in names}
    assert answers["Add"] is True
    assert answers["Det"] is False
    unknown = {n for n, a in answers.items() if a is None}
    assert unknown, newest
    name = min(unknown)
    onnx.save(model([node(name, "x", "y")], [X], [Y]), tmp_path / "m.onnx")
    found = legality.check(tmp_path / "m.onnx", target())
    assert [f.level for f in found if f.rule == "operators"] == ["unknown"]


def test_the_list_has_no_operator_twice() -> None:
    """Each has one row of types, or is unsupported."""
    lists = _tensorrt._lists()
    names = [n for row in lists["types"].values() for n in row] + lists["unsupported"]["names"]
    assert len(names) == len(set(names)) == 201
    assert set(lists["since"]) <= set(_tensorrt.types())


def test_external_data_must_be_there_and_inside(tmp_path: Path) -> None:
    """A weight file that is gone, or that lies above the model's folder, is an error with its name."""
    made = tmp_path / "made" / "m.onnx"
    testing.mlp(made, width=64)
    proto = onnx.load(made)
    onnx.save(proto, made, save_as_external_data=True, location="w.bin", size_threshold=0)
    requests = [Request("all", 1.0, {"x": np.zeros((1, 64), np.float32)})]
    assert legality.check(made, target(), requests) == ()
    (made.parent / "w.bin").rename(made.parent / "gone.bin")
    (found,) = legality.check(made, target(), requests)
    assert (found.rule, found.level) == ("files", "error")
    assert "w.bin" in found.message
    outside = onnx.load(made, load_external_data=False)
    for tensor in outside.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../gone.bin"
    made.write_bytes(outside.SerializeToString())
    (made.parent / "gone.bin").rename(tmp_path / "gone.bin")
    (found,) = legality.check(made, target(), requests)
    assert "outside its folder" in found.message


def test_a_file_above_two_gigabytes_is_refused(tmp_path: Path) -> None:
    """2.2 GB in one file, most of it a hole: no parser takes it, and what to do is said."""
    path = tmp_path / "m.onnx"
    testing.mlp(path)
    with path.open("r+b") as stream:
        stream.truncate(2_200_000_000)
    with pytest.raises(BadModel, match=r"2\.20 GB in one file.*weights beside it"):
        legality.check(path, target())


def test_a_file_near_the_limit_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the mark set to 100 bytes, any graph is near it."""
    made = testing.mlp(tmp_path / "m.onnx")
    monkeypatch.setattr(files, "NEAR_BYTES", 100)
    found = legality.check(made.path, target(), [testing.request(made)])
    assert [(f.rule, f.level) for f in found] == [("files", "warning")]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x08\x08garbage"])
def test_what_is_no_model_is_not_judged(tmp_path: Path, content: bytes) -> None:
    """BadModel, as of every other question."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModel):
        legality.check(path, target())


def no_branches(node: Any) -> None:
    node.op_type = "If"


def no_scale(node: Any) -> None:
    node.op_type = "QuantizeLinear"


def no_inputs(node: Any) -> None:
    node.op_type = "Concat"
    node.ClearField("input")


def no_import(node: Any) -> None:
    node.op_type, node.domain = "Frobnicate", "foo.bar"


@pytest.mark.parametrize("edit", [no_inputs, no_import])
def test_a_broken_graph_is_a_finding(tmp_path: Path, edit: Callable[[Any], None]) -> None:
    """Where no rule stumbles over it, the rule valid tells what is wrong."""
    made = node("Identity", "x", "y")
    edit(made)
    onnx.save(model([made], [X], [Y]), tmp_path / "m.onnx")
    assert ("valid", "error") in {
        (f.rule, f.level) for f in legality.check(tmp_path / "m.onnx", target())
    }


@pytest.mark.parametrize("edit", [no_branches, no_scale])
def test_a_rule_that_a_broken_graph_trips_up_is_no_bug(
    tmp_path: Path, edit: Callable[[Any], None]
) -> None:
    """BadModel in the checker's words."""
    made = node("Identity", "x", "y")
    edit(made)
    onnx.save(model([made], [X], [Y]), tmp_path / "m.onnx")
    with pytest.raises(BadModel, match="is not a valid ONNX model"):
        legality.check(tmp_path / "m.onnx", target())


def test_a_constant_without_a_value_is_told(tmp_path: Path) -> None:
    """onnx's checker lets it pass: the question answers all the same."""
    made = model([helper.make_node("Constant", [], ["c"]), node("Add", "x c", "y")], [X], [Y])
    onnx.save(made, tmp_path / "m.onnx")
    legality.check(tmp_path / "m.onnx", target())


@pytest.mark.parametrize("axis", [0, 1, 7])
def test_scales_that_do_not_fit_a_bias_are_not_multiplied(tmp_path: Path, axis: int) -> None:
    """The fix leaves a DequantizeLinear whose scales are not one for each index of its axis."""
    nodes = [node("DequantizeLinear", "b s", "w", axis=axis), node("Add", "x w", "y")]
    values = [weight("b", [[1] * 8], "int32"), weight("s", [1, 2])]
    onnx.save(model(nodes, [X], [Y], values), tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", target(), tmp_path / "out.onnx") == ()


def test_functions_are_looked_into(tmp_path: Path) -> None:
    """An unsupported operator inside of a model's function is found."""
    function = helper.make_function(
        "local", "F", ["a"], ["b"], [node("Det", "a", "b")], [helper.make_opsetid("", 17)]
    )
    proto = model(
        [node("F", "x", "y", domain="local")],
        [("x", F, [1, 2, 2])],
        [("y", F, [1])],
        domains=["local"],
        functions=[function],
    )
    onnx.save(proto, tmp_path / "m.onnx")
    assert [(f.rule, f.operator) for f in legality.check(tmp_path / "m.onnx", target())] == [
        ("operators", "Det")
    ]


def test_our_kernels_are_those_of_the_folder() -> None:
    """Read in their source, one operator a member, as the members themselves say."""
    assert set(plugins.kernels().values()) == set(catalog.names("kernels"))
    pytest.importorskip("numba", reason="of the kernels extra; instead: the cases without kernels")
    for op, name in plugins.kernels().items():
        assert op == catalog.load("kernels", name).OP


def test_requests_against_fixed_sizes(tmp_path: Path) -> None:
    """A request of another size than the graph's own cannot have a profile."""
    onnx.save(model([node("Relu", "x", "y")], [X], [Y]), tmp_path / "m.onnx")
    for shape, said in (((3, 8), "fixes it at 2"), ((2, 8, 1), "it has 2 axes")):
        request = Request("all", 1.0, {"x": np.zeros(shape, np.float32)})
        (found,) = legality.check(tmp_path / "m.onnx", target(), [request])
        assert said in found.message


def test_an_axis_of_two_inputs_is_told_once(tmp_path: Path) -> None:
    """One finding an axis, with the inputs that have it; an axis without a name is told by its place."""
    made = testing.attention(tmp_path / "m.onnx")
    found = legality.check(made.path, target())
    assert [(f.level, f.where) for f in found] == [("unknown", "ids, mask")] * 2
    nameless = model([node("Relu", "x", "y")], [("x", F, [2, None])], [("y", F, [2, None])])
    onnx.save(nameless, tmp_path / "n.onnx")
    (found,) = legality.check(tmp_path / "n.onnx", target(memory_bytes=1_000_000))
    assert "axis 1 of x, which has no name, is dynamic" in found.message


def test_a_wide_profile_is_worth_a_note(tmp_path: Path) -> None:
    """Sizes from 1 to 64 of one axis: a note, not a warning."""
    made = testing.mlp(tmp_path / "m.onnx")
    requests = [testing.request(made, batch=batch) for batch in (1, 64)]
    (found,) = legality.check(made.path, target(), requests)
    assert (found.rule, found.level) == ("dynamic", "note")
    assert "from 1 to 64" in found.message


def test_a_double_that_does_not_fit_is_not_narrowed(tmp_path: Path) -> None:
    """The fix looks at the values: 1e300 would become infinite."""
    proto = model([node("Mul", "x w", "y")], [("x", 11, [2])], [("y", 11, [2])], [drawn("w", 2, dtype="float64", scale=1e300)])  # fmt: skip
    onnx.save(proto, tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", target(), tmp_path / "out.onnx") == ()


def mixed(*nodes: Any) -> Any:
    """float16 a and z, float b."""
    inputs = [("a", H, [2, 8]), ("z", H, [2, 8]), ("b", F, [2, 8])]
    last = nodes[-1].output[0]
    return model(nodes, inputs, [(last, F, [2, 8])])


SUM = node("Add", "a b", "c")
SUMS = {
    "a cast is read again": mixed(SUM, node("Add", "a c", "y")),
    "a cast stands too late": mixed(
        SUM, node("Add", "z c", "d"), node("Add", "z b", "e"), node("Add", "d e", "y")
    ),
    "its name is another's": mixed(node("Neg", "b", "a__float"), node("Add", "a a__float", "y")),
}


@pytest.mark.parametrize("name", SUMS)
def test_casts_of_several_rounds_have_one_maker_each(tmp_path: Path, name: str) -> None:
    """The second round finds what the first one's casts let be known."""
    onnx.save(SUMS[name], tmp_path / "m.onnx")
    assert legality.fix(tmp_path / "m.onnx", target(), tmp_path / "out.onnx", "typed")
    made = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(made, full_check=True)
    names = [n.name for n in made.graph.node]
    assert len(names) == len(set(names))
    assert legality.check(tmp_path / "out.onnx", target(), [], "typed") == ()


def test_a_constant_may_be_written_as_numbers(tmp_path: Path) -> None:
    """value_ints is as constant as a tensor is."""
    forms = {"value_int": 1, "value_ints": [1], "value_float": 0.5, "value_floats": [0.5, 2.0]}
    nodes = [helper.make_node("Constant", [], [f], **{f: v}) for f, v in forms.items()]
    nodes.append(node("ReduceSum", "x value_ints", "y"))
    onnx.save(model(nodes, [X], [("y", F, [2, 1])]), tmp_path / "m.onnx")
    assert legality.check(tmp_path / "m.onnx", target(), [], "limits") == ()
    graph = _graph.view(tmp_path / "m.onnx")
    assert {f: graph.value(f).tolist() for f in forms} == forms


def test_a_branch_may_have_initializers(tmp_path: Path) -> None:
    """They are constant, where no other value has the name."""
    branches = {}
    for name in ("then", "else"):
        part = body([node("ReduceSum", f"x {name}_axes", name)], [], [(name, F, [2, 1])])
        part.initializer.append(weight(f"{name}_axes", [1], "int64"))
        branches[f"{name}_branch"] = part
    made = model([node("If", "c", "y", **branches)], [X, ("c", B, [])], [("y", F, [2, 1])])
    onnx.save(made, tmp_path / "m.onnx")
    assert legality.check(tmp_path / "m.onnx", target(), [], "limits") == ()


def test_an_axis_of_minus_one_is_open(tmp_path: Path) -> None:
    """Some exporters write it so: a request may give it any size."""
    onnx.save(model([node("Relu", "x", "y")], [("x", F, [-1, 8])], [("y", F, [-1, 8])]), tmp_path / "m.onnx")  # fmt: skip
    request = Request("all", 1.0, {"x": np.zeros((3, 8), np.float32)})
    assert legality.check(tmp_path / "m.onnx", target(), [request]) == ()
    graph = _graph.view(tmp_path / "m.onnx")
    assert graph.sizes["x"] == graph.sizes["y"] == (None, 8)
    assert shapes._sizes(graph.inputs["x"]) == (None, 8)
