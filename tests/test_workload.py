"""Workloads: what a user's file may say, and the one clear error for everything else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from accel import arrays, sources, testing, workload
from accel.errors import BadModel, UsageError
from accel.steps import evaluate
from accel.values import Workload

GOOD = """
import numpy as np
X = np.ones((2, 3), np.float32)
dynamic = {"x": {0: "batch"}}
def model(): return "model.onnx"
def inputs(): return {"x": X}
def calibration(): return [{"x": X}] * 3
def samples(split): return [({"x": X}, 1), ([{"x": X}, {"x": X}], 0)]
def row(outputs, label): return label
def metric(rows): return rows.mean()
def requests(): yield "a", 3, {"x": X}; yield "b", np.float32(1), {"x": [[1, 2, 3]]}
"""


def load(folder: Path, text: str, words: str = "") -> Workload:
    path = folder / "w.py"
    path.write_text(text)
    return workload.load(f"{path}{words}")


def test_what_a_whole_file_says(tmp_path: Path) -> None:
    """Weights come out as shares, lists as arrays, a pair of calls as one sample."""
    found = load(tmp_path, GOOD)
    assert (found.name, found.dynamic) == ("w", {"x": {0: "batch"}})
    requests = workload.requests(found)
    assert [(r.group, r.weight) for r in requests] == [("a", 0.75), ("b", 0.25)]
    assert requests[1].inputs["x"].shape == (1, 3)
    calibration, samples = workload.calibration(found), workload.samples(found, "search")
    assert calibration is not None
    assert samples is not None
    assert len(list(calibration)) == 3
    assert [(len(calls), label) for calls, label in samples] == [(1, 1), (2, 0)]


def test_a_file_may_be_given_as_a_path(tmp_path: Path) -> None:
    """A workload, or a graph with its data: what pathlib gives is what a text says."""
    text = load(tmp_path, GOOD)
    found = workload.load(tmp_path / "w.py")
    assert (found.source, found.digest) == (text.source, text.digest)
    model, feeds = testing.mlp(tmp_path / "m.onnx"), tmp_path / "feeds.npz"
    arrays.save(feeds, [testing.request(model).inputs])
    assert workload.load(model.path, feeds).data == str(feeds)


def test_what_is_absent_is_not_invented(tmp_path: Path) -> None:
    """Only model() is needed; without data there is none, and the example is the one request."""
    bare = load(tmp_path, "def model(): pass")
    assert workload.calibration(bare) is None
    assert workload.samples(bare, "search") is None
    with pytest.raises(UsageError, match=r"w\.py needs inputs\(\) or requests\(\)"):
        workload.requests(bare)
    (request,) = workload.requests(load(tmp_path, "def model(): 0\ndef inputs(): return {'x': 1}"))
    assert (request.group, request.weight) == ("example", 1.0)
    first = load(tmp_path, "def model(): 0\ndef requests(): return [('a', 1, {'x': [7]})]")
    assert workload.example(first)["x"].tolist() == [7]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent.py", None, r"absent\.py is not a file"),
        ("w.txt", "", r"w\.txt: a workload is a \.py or an \.onnx, not \.txt\."),
        ("w", "", "not a file without a suffix"),
        ("w.py", "x = 1\ndef model(:\n", r"w\.py:2: invalid syntax"),
        ("w.py", "\0", "null bytes"),
        ("w.py", "import json\n\njson.loads('{')\n", r"failed at w\.py:3 in <module>: JSONDecode"),
        ("w.py", "import no_such_library", r"w\.py:1 in <module>: ModuleNotFoundError"),
        ("w.py", "import sys\nsys.exit(0)", r"failed at w\.py:2 in <module>: SystemExit"),
        ("w.py", "", r"w\.py defines no model\(\)"),
        ("w.py", "def model(): 0\ndef calibrations(): 0", r"calibrations\(\).*mean calibration\(\)"),
        ("w.py", "def modle(): 0", r"modle\(\) is not read\. Did you mean model\(\)\?"),
        ("w.py", "def model(): 0\nhigher_is_beter = False", r"higher_is_beter is not read\. Did you mean higher_is_better\?"),
        ("w.py", "def model(): 0\noutput = ('y',)", r"output is not read\. Did you mean outputs\?"),
        ("w.py:W", "class W:\n  def model(self): 0\n  paddings = {'x': 0}", r"Did you mean padding\?"),
        ("w.py", "model = 'm.onnx'", "model must be a function, not str"),
        ("w.py", "def model(): 0\ninputs = {}", "inputs must be a function, not dict"),
        ("w.py:Absent", GOOD, "has no 'Absent'"),
        ("w.py:W", "class W:\n  def __init__(self): 1 / 0", r"W failed at w\.py:2 in __init__"),
        ("w.py:W", "class W:\n  def modle(self): 0", r"Did you mean model\(\)"),
    ],
)  # fmt: skip
def test_files_that_are_refused(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    """Each names the file, the line where there is one, and what is wrong."""
    if text is not None:
        (tmp_path / name.partition(":")[0]).write_text(text)
    with pytest.raises(UsageError, match=said):
        workload.load(str(tmp_path / name))


ORDINARY = """
output, outputs_, paddings, noises, metric_names = "folder", [], {"x": None}, (1, 2), ["a"]
metric_nam = metric_name = "top-1"
"""


def test_a_setting_of_ones_own_is_none_of_accels(tmp_path: Path) -> None:
    """A name that is nearly accel's is let be where its value could not be meant, or accel's stands beside."""
    assert load(tmp_path, GOOD + ORDINARY).outputs == ()


ODD = """
class Odd:
    def __str__(self): raise RuntimeError("not that")
    __repr__ = __bool__ = __eq__ = __str__
"""
WANTED_REQUEST = r"must yield \(group, weight above 0, inputs\)"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("requests(): return []", r"requests\(\) yields nothing"),
        ("requests(): return 5", r"requests\(\) failed at .*: TypeError"),
        ("requests(): return [('a', {'x': X})]", WANTED_REQUEST + "; item 0 is tuple"),
        ("requests(): return [5]", WANTED_REQUEST + "; item 0 is int"),
        *(
            (f"requests(): return [('a', {weight}, {{'x': X}})]", WANTED_REQUEST + "; the weight")
            for weight in ("0", "-1", "float('nan')", "float('inf')", "'1'", "None", "X")
        ),
        ("requests(): return [('a', 10**400, {'x': X})]", WANTED_REQUEST + "; the weight"),
        ("requests(): return [(Odd(), 1, {'x': X})]", r"requests\(\) failed at w\.py:\d+ in __str__"),
        ("requests(): return [('a', 1, X)]", r"requests\(\) must give a dict.*not ndarray"),
        ("requests(): return [('a', 1, {})]", r"requests\(\) must give a dict.*not an empty one"),
        ("requests(): raise OSError('gone')", r"failed at w\.py:\d+ in requests: OSError: gone"),
        ("calibration(): return []", r"calibration\(\) yields nothing"),
        ("calibration(): return {'x': X}", r"calibration\(\) must give a dict.*not str"),
        ("calibration(): return [{'x': X * np.nan}]", r"calibration\(\): 'x' holds 6 NaN"),
        ("inputs(): return X", r"inputs\(\) must give a dict.*not ndarray"),
        ("inputs(): return {'x': ['a']}", r"'x' is <U1; numbers or booleans"),
        ("inputs(): return {'x': np.array([None])}", r"'x' is object; numbers or booleans"),
        ("inputs(): return {'x': [[1], [1, 2]]}", r"inputs\(\): 'x' is not an array"),
        ("samples(split): return [1]", r"samples\(\) must yield \(inputs, label\); item 0 is int"),
        ("samples(split): return [(5, 1)]", r"samples\(\) must give a dict.*not int"),
        ("samples(split): return []", r"samples\('search'\) yields nothing"),
        ("samples(split): 1 / 0", r"samples\(\) failed at w\.py:\d+ in samples: ZeroDivision"),
    ],
)  # fmt: skip
def test_data_that_is_refused(tmp_path: Path, function: str, said: str) -> None:
    """Whatever a function yields is checked when it is read, and the function is named."""
    found = load(tmp_path, f"{GOOD}{ODD}\ndef {function}")
    with pytest.raises(UsageError, match=said):
        read(found, tmp_path)


def read(found: Workload, folder: Path) -> None:
    """Everything that a run asks of a workload before it has a plan."""
    workload.example(found)
    workload.requests(found)
    list(workload.calibration(found) or ())
    if workload.samples(found, "search") == []:
        evaluate.evaluate(None, found, "search", folder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("metric_unit = np.zeros(3)", "", r'metric_unit must be "pt" .* not array\(\[0'),
        ("noise = Odd()", "", "noise must be .* not <Odd instance at"),
        ("class W:\n  model = property(lambda self: 1 / 0)\nw = W()", ":w", r"failed at w\.py:\d+"),
        ("class W:\n  def __getattr__(self, n): raise OSError(n)\nw = W()", ":w", "OSError: model"),
        (
            "class W:\n  model = print\n  def __dir__(self): return [5]\nw = W()",
            ":w",
            "AttributeError",
        ),
        ("def __getattr__(name): raise OSError(name)", ":later", "OSError: later"),
    ],
)
def test_members_that_have_a_mind_of_their_own(
    tmp_path: Path, text: str, words: str, said: str
) -> None:
    """Whatever it raises to be looked at, compared or shown is the workload's error."""
    with pytest.raises(UsageError, match=said):
        load(tmp_path, GOOD + ODD + text, words)


def test_weights_too_large_to_be_summed(tmp_path: Path) -> None:
    """Shares are taken of the heaviest first."""
    found = load(tmp_path, "def model(): 0\ndef requests(): return [('a', 1e308, {'x': 1})] * 4")
    assert [r.weight for r in workload.requests(found)] == [0.25] * 4


@pytest.mark.parametrize("ids", ["['a', None]", "[[1], [2]]", "[[1], [1, 2]]"])
def test_clusters_that_are_refused(tmp_path: Path, ids: str) -> None:
    """Ids are numbers or texts: others cannot be kept beside the rows."""
    found = load(tmp_path, f"{GOOD}\ndef clusters(split): return {ids}")
    with pytest.raises(UsageError, match=r"clusters\("):
        workload.clusters(found, "search", 2)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("row(outputs, label): return label.nothing", r"row\(\) failed at w\.py:\d+ in row"),
        ("row(outputs, label): return [1] * (1 + label)", r"row\(\) failed"),
        ("row(outputs, label): return 'right'", r"row\(\) failed"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, function: str, said: str) -> None:
    """A row that raises, is ragged or is no number is the workload's error."""
    found = load(tmp_path, f"{GOOD}\ndef {function}")
    with pytest.raises(UsageError, match=said):
        workload.rows(found, [({"y": 1},), ({"y": 2},)], [1, 0])  # type: ignore[dict-item]


def test_rows_get_one_output_or_a_list(tmp_path: Path) -> None:
    """A sample of one call gives its outputs, one of several gives a list of them."""
    found = load(tmp_path, f"{GOOD}\ndef row(outputs, label): return len(outputs)")
    one: Any = {"y": 1, "z": 2, "u": 3}
    assert workload.rows(found, [(one,), (one, one)], [0, 0]).tolist() == [3.0, 2.0]


CLASS = """
class Base:
    def model(self): return "model.onnx"
class W(Base):
    metric_unit = "fraction"
    def inputs(self): return {"x": [self.size]}
    size = 3
    @property
    def later(self): raise RuntimeError("not asked for")
w = W()
w.size = 5
"""


@pytest.mark.parametrize(("name", "size"), [("W", 3), ("w", 5)])
def test_an_object_in_a_file(tmp_path: Path, name: str, size: int) -> None:
    """A class is made, an instance is taken as it is; the source loads again from elsewhere."""
    found = load(tmp_path, CLASS, f":{name}")
    assert found.metric_unit == "fraction"
    assert workload.example(found)["x"].tolist() == [size]
    again = workload.load(found.source)
    assert workload.example(again)["x"].tolist() == [size]


@pytest.mark.parametrize(
    ("source", "file", "name"),
    [
        ("w.py", "w.py", ""),
        ("w.py:W", "w.py", "W"),
        ("w.py:", "w.py", ""),
        ("t:1/w.py", "t:1/w.py", ""),
        ("t:1/w.py:W", "t:1/w.py", "W"),
        ("t:1/m.onnx", "t:1/m.onnx", ""),
        ("w.py:m.onnx", "w.py:m.onnx", ""),
        ("w.py:1/m", "w.py:1/m", ""),
    ],
)
def test_only_a_name_behind_a_py_is_an_object(source: str, file: str, name: str) -> None:
    """A path may have colons of its own; nothing before one is run because of what stands after."""
    assert sources.parted(source) == (file, name)


def test_a_folder_may_have_a_colon(tmp_path: Path) -> None:
    """A workload, an object of one and a graph load from there, and again by their own source."""
    folder = tmp_path / "t:1"
    folder.mkdir()
    part = load(folder, GOOD + CLASS, ":W")
    whole = workload.load(folder / "w.py")
    graph = workload.load(testing.mlp(folder / "m.onnx").path)
    for found in (whole, part, graph):
        assert workload.load(found.source).digest == found.digest
    assert part.source == f"{folder}/w.py:W"


def test_a_graph_alone_is_an_onnx(tmp_path: Path) -> None:
    """Whatever else is given where only a graph may stand is named, and not run."""
    (tmp_path / "w.py").write_text("raise RuntimeError('it ran')")
    with pytest.raises(UsageError, match=r"a graph is an \.onnx, not \.py"):
        workload.plain(tmp_path / "w.py")


@pytest.mark.parametrize("form", ["w.py", "./w.py", "sub/../w.py", "./w.py:W"])
def test_the_source_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """However a path is written, a child in any folder can load the same workload."""
    (tmp_path / "w.py").write_text(GOOD + CLASS)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    found = workload.load(form)
    monkeypatch.chdir("/")
    assert workload.load(found.source).digest == found.digest


def test_the_digest_sees_the_file(tmp_path: Path) -> None:
    """One changed byte of the source is another workload."""
    assert load(tmp_path, GOOD).digest != load(tmp_path, GOOD + "#").digest


def test_a_plain_graph(tmp_path: Path) -> None:
    """Without data its request is random, seeded and named so; calibration is never invented."""
    path = testing.mlp(tmp_path / "m.onnx").path
    one, two = (workload.requests(workload.load(str(path))) for _ in range(2))
    assert one[0].group == "random"
    assert one[0].inputs["x"].shape == (1, 8)
    assert np.array_equal(one[0].inputs["x"], two[0].inputs["x"])
    assert workload.calibration(workload.load(str(path))) is None
    assert workload.load(str(path)).dynamic == {"x": {0: "batch"}}


def test_a_graph_with_its_data(tmp_path: Path) -> None:
    """Every feed of --data is a request of equal weight, and calibration data."""
    path = testing.mlp(tmp_path / "m.onnx").path
    feeds = [{"x": np.ones((n, 8), np.float32)} for n in (1, 2, 4)]
    arrays.save(tmp_path / "d.npz", feeds)
    found = workload.load(str(path), str(tmp_path / "d.npz"))
    assert [r.weight for r in workload.requests(found)] == [pytest.approx(1 / 3)] * 3
    calibration = workload.calibration(found)
    assert calibration is not None
    assert arrays.digest(calibration) == arrays.digest(feeds)


ONES = np.ones((2, 8), np.float32)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no arrays"),
        ({"z": ONES}, "feed 0 and the model differ in x, z: given z, needed x"),
        ({"x": ONES, "z": ONES}, "feed 0 and the model differ in z: given x, z, needed x"),
        ({"x": ONES.astype(np.float64)}, "'x' is float64; the model takes float32"),
        ({"x": ONES[:, :5]}, r"shape \(2, 5\); the model takes \[batch, 8\]"),
        ({"x": ONES[0]}, r"shape \(8,\); the model takes"),
        ({"x": ONES * np.nan}, "feed 0: 'x' holds 16 NaN"),
        ({"x": np.array(["a"])}, "'x' is <U1"),
    ],
)  # fmt: skip
def test_data_that_does_not_fit_the_graph(
    tmp_path: Path, content: dict[str, Any], said: str
) -> None:
    """Names, dtypes, shapes and NaN are seen before anything is built, not by a runtime."""
    path = testing.mlp(tmp_path / "m.onnx").path
    np.savez(tmp_path / "d.npz", allow_pickle=False, **content)
    with pytest.raises(UsageError, match=said):
        workload.load(str(path), str(tmp_path / "d.npz"))


def test_data_without_a_name_is_not_random_numbers(tmp_path: Path) -> None:
    """An empty text names no file; random numbers stand in for nothing that was asked for."""
    path = testing.mlp(tmp_path / "m.onnx").path
    with pytest.raises(UsageError, match="is not a file"):
        workload.load(path, "")


def test_data_is_for_graphs(tmp_path: Path) -> None:
    """--data beside a workload file, or one that is absent, is refused."""
    (tmp_path / "w.py").write_text(GOOD)
    with pytest.raises(UsageError, match=r"--data goes with an \.onnx"):
        workload.load(str(tmp_path / "w.py"), "d.npz")
    path = testing.mlp(tmp_path / "m.onnx").path
    with pytest.raises(UsageError, match=r"absent\.npz is not a file"):
        workload.load(str(path), str(tmp_path / "absent.npz"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (helper.make_tensor_value_info("x", TensorProto.STRING, [1]), "'x' is object"),
        (helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [1]), "'x' is bfloat16"),
        (helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1]), "not a tensor"),
    ],
    ids=["strings", "bfloat16", "sequence"],
)
def test_graphs_that_cannot_be_fed(tmp_path: Path, value: Any, said: str) -> None:
    """An input that no array of numbers can be given to is named."""
    out = onnx.ValueInfoProto()
    out.CopyFrom(value)
    out.name = "y"
    node = helper.make_node("Identity", ["x"], ["y"])
    made = helper.make_model(helper.make_graph([node], "g", [value], [out]), ir_version=8)
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=said):
        workload.load(str(tmp_path / "m.onnx"))


def test_a_folder_or_a_broken_graph(tmp_path: Path) -> None:
    """A folder is not a workload, and a graph is opened before anything is promised of it."""
    with pytest.raises(UsageError, match="is not a file"):
        workload.load(os.fspath(tmp_path))
    (tmp_path / "m.onnx").write_bytes(b"PK\x03\x04")
    with pytest.raises(BadModel, match="zip archive"):
        workload.load(str(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    "dims",
    [[1] * 65, [0, 2**40, 2**40], [2**27], [2**25, 4]],
    ids=["axes", "empty", "large", "two"],
)
def test_random_numbers_are_made_for_what_memory_holds(dims: list[int], tmp_path: Path) -> None:
    """They are drawn in 8 bytes each, whatever the port takes, and all inputs share the limit."""
    kind = TensorProto.UINT8
    ports = [helper.make_tensor_value_info(n, kind, d) for n, d in (("x", dims), ("y", [1]))]
    nodes = [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Identity", ["y"], ["b"])]
    outputs = [helper.make_tensor_value_info(n, kind, None) for n in "ab"]
    body = helper.make_graph(nodes, "g", ports, outputs)
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="random numbers are made for"):
        workload.load(str(tmp_path / "m.onnx"))
