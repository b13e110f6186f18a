"""CONTRIBUTING.md is true: each file that it shows is a whole member, with nothing else edited."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnx
import pytest

from accel import catalog, testing

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```\w+\n(# ([\w/.-]+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = {found[2]: found[1] for found in BLOCK.finditer(TEXT)}  # place -> text
PROTOCOL = """
import inspect, sys
from accel import catalog, protocols
member = catalog.load(sys.argv[1], sys.argv[2])
verbs = vars(getattr(protocols, sys.argv[3])).items()
for name, verb in ((n, v) for n, v in verbs if callable(v) and not n.startswith("_")):
    wanted = list(inspect.signature(verb).parameters)[1:]
    assert list(inspect.signature(getattr(member, name)).parameters) == wanted, name
assert isinstance(getattr(member, sys.argv[4]), (bool, str))
"""
FEEDS = """
import dataclasses, tempfile
from contextlib import closing
from pathlib import Path
from typing import Any
import numpy as np
from accel import catalog, errors, graph, target
from accel.protocols import Probe
member = catalog.load("engines", "{name}")
here = dataclasses.replace(target.load("cpu-local"), threads=1)
model = graph.describe(Path("small.onnx"))
assert isinstance(member.probe(), Probe) and member.probe().usable
assert member.recipes(here)["fp32"] is None
assert set(member.recipes(here)) == set(catalog.names("recipes"))
[options] = member.options("fp32", here, [], {{}})
assert options["threads"] == 1
plan = member.build(model, here, options, [], Path(tempfile.mkdtemp()))
assert (plan.engine, plan.model.digest) == ("{name}", model.digest) and plan.versions
feed = {{"x": np.ones((3, 8), np.float32)}}
with closing(member.load(plan)) as session:
    first = session(feed)["y"]
    assert first.shape == (3, 4) and np.array_equal(first, session.bind(feed)()[0])
    for wrong in ({{}}, {{"x": feed["x"].astype(float)}}, {{"x": feed["x"][:, :5]}}):
        try:
            session(wrong)
        except errors.UsageError:
            continue
        raise SystemExit(f"took {{wrong}}")
try:
    session(feed)
except errors.CandidateBroken:
    print("refused")
"""


@pytest.fixture(scope="module")
def extended(copy: Any) -> Any:
    """A copy of the package with the shown files in it, and tiny graphs beside it."""
    for place, text in SHOWN.items():
        path = copy.folder / "accel" / place.removeprefix("accel/")
        assert not path.exists(), f"{place} is a member already: show another one"
        path.write_text(text, encoding="utf-8")
    testing.mlp(copy.folder / "mlp.onnx", width=64)
    testing.mlp(copy.folder / "small.onnx")
    return copy


def _shown(folder: str) -> str:
    """The name of the one member that is shown of a family."""
    [name] = [Path(place).stem for place in SHOWN if place.startswith(folder)]
    return name


def test_every_block_is_a_file_at_its_place() -> None:
    """An engine, a recipe, a target and a kernel; each block begins with its path."""
    assert len(SHOWN) == len(re.findall(r"^```\w+$", TEXT, re.MULTILINE)) == 4
    folders = {str(Path(p).parent) for p in SHOWN}
    assert folders == {"accel/engines", "accel/recipes", "profiles", "kernels"}


@pytest.mark.parametrize(
    ("words", "family", "folder"),
    [
        ("engines", "engines", "accel/engines/"),
        ("recipes", "recipes", "accel/recipes/"),
        ("targets", "profiles", "profiles/"),
        ("kernels", "kernels", "kernels/"),
    ],
)
def test_it_is_listed(extended: Any, words: str, family: str, folder: str) -> None:
    """`accel list` names it beside all the others."""
    found = extended.run("-m", "accel", "list", words).split()
    assert sorted(found) == sorted({*catalog.names(family), _shown(folder)})


@pytest.mark.parametrize(
    ("family", "protocol", "constant"),
    [
        ("engines", "Engine", "BASELINE"),
        ("recipes", "Recipe", "NEEDS_CALIBRATION"),
        ("kernels", "Kernel", "OP"),
    ],
)
def test_it_offers_what_the_protocol_lists(
    extended: Any, family: str, protocol: str, constant: str
) -> None:
    """The same functions with the same parameters, and the constant."""
    folder = "kernels/" if family == "kernels" else f"accel/{family}/"
    extended.run("-c", PROTOCOL, family, _shown(folder), protocol, constant)


def test_the_engine_keeps_its_promises(extended: Any) -> None:
    """Probe, answers for the recipes, plan, outputs; wrong feeds and a closed session are refused."""
    name = _shown("accel/engines/")
    assert extended.run("-c", FEEDS.format(name=name)).strip() == "refused"


def test_the_engine_gives_what_the_reference_gives(extended: Any) -> None:
    """`accel check` compares their outputs, each from a process of its own."""
    words = ("mlp.onnx", "--against", "mlp.onnx", "--engine", _shown("accel/engines/"), "--json")
    [output] = json.loads(extended.run("-m", "accel", "check", *words))["data"]["outputs"]
    assert output["max_abs"] < 1e-5


def test_the_recipe_makes_a_smaller_graph_that_is_close(extended: Any) -> None:
    """`accel quantize` applies it for the target that is shown."""
    recipe, target = _shown("accel/recipes/"), _shown("profiles/")
    words = ("--recipe", recipe, "--target", target, "--out", "half.onnx", "--json")
    trail = json.loads(extended.run("-m", "accel", "quantize", "mlp.onnx", *words))["data"]["trail"]
    assert trail[-1] == "fp16_weights: 2 weights"
    sizes = [(extended.folder / n).stat().st_size for n in ("half.onnx", "mlp.onnx")]
    assert sizes[0] < 0.6 * sizes[1]
    found = json.loads(extended.run("-m", "accel", "check", "half.onnx", "--against", "mlp.onnx", "--json"))  # fmt: skip
    assert 50 < found["data"]["outputs"][0]["sqnr_db"] < 100


def test_a_plan_is_built_for_the_target(extended: Any) -> None:
    """With the threads that it names."""
    words = ("mlp.onnx", "--target", _shown("profiles/"), "--out", "plan", "--json")
    plan = json.loads(extended.run("-m", "accel", "build", *words))["data"]
    assert plan["options"]["threads"] == 2


def test_the_kernel_is_right(extended: Any) -> None:
    """Its source and what was compiled of it, every dtype and case."""
    words = ("kernels", "check", "--kernel", _shown("kernels/"), "--json", "--quiet")
    found = json.loads(extended.run("-m", "accel", *words))["data"]
    assert len(found) == 12
    assert all(tried["right"] for tried in found)


def test_the_kernel_is_put_into_a_graph(extended: Any) -> None:
    """Relu times itself becomes its operator, and computes the same."""
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 5] x) => (float[N, 5] y) { r = Relu(x)  y = Mul(r, r) }"""
    onnx.save(onnx.parser.parse_model(text), extended.folder / "squared.onnx")
    words = ("swap", "squared.onnx", "--kernel", _shown("kernels/"), "--out", "put.onnx", "--json")
    found = json.loads(extended.run("-m", "accel", *words))["data"]
    assert found["sites"] == {"relu_squared": 1}
    words = ("check", "put.onnx", "--against", "squared.onnx", "--json")
    [output] = json.loads(extended.run("-m", "accel", *words))["data"]["outputs"]
    assert output["max_abs"] == 0
