"""Kernels that came compiled with a release are taken as they are, on a device with no compiler."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import helper

from accel import catalog, finishing, target
from accel.cuda import building, constants, ledger, packed
from accel.engines import _tensorrt_plugins as plugins
from accel.errors import CandidateBroken, MissingExtra
from accel.measure import child
from accel.steps import kernels as kernel_step

TARGET = target.load("jetson-orin-nano")  # PTX 8.5 at the most
KERNEL = "masked_mean_pool_l2"
BAKED = catalog.load("kernels", KERNEL).VARIANTS[0]
ASKED = (KERNEL, "float16", json.dumps(BAKED, sort_keys=True), "8.7", "8.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One kernel, as `accel optimize` packs it for a device elsewhere."""
    pytest.importorskip(
        "numba",
        reason="of the kernels extra, there is no compiler to pack with; instead: tests/tensorrt/test_packed.py",
    )
    out = tmp_path_factory.mktemp("release") / "kernels"
    _, refused = kernel_step.build([KERNEL], [TARGET], out, {})
    assert refused == ()
    return out


@pytest.fixture
def bare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder is named, and a fake compiler says, as on a device without Numba, what is absent."""

    def absent(*_: object) -> None:
        raise MissingExtra("kernels need numba")

    monkeypatch.setenv(packed.VARIABLE, str(folder))
    monkeypatch.setattr(plugins.ptx, "compile", absent)
    plugins._compiled.cache_clear()
    yield folder
    plugins._compiled.cache_clear()


def test_what_came_along_is_what_would_be_compiled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte: the same sources, tools, compute capability and PTX version."""
    monkeypatch.delenv(packed.VARIABLE, raising=False)
    plugins._compiled.cache_clear()
    here = plugins._compiled(*ASKED)
    monkeypatch.setenv(packed.VARIABLE, str(folder))
    assert packed.find(KERNEL, "float16", BAKED, "8.7", "8.5") == here
    assert ".version 8.5\n.target sm_87" in here[1]


def test_no_compiler_is_called_where_the_folder_has_it(bare: Path) -> None:
    """A plugin gets its entry and PTX, every dtype its own."""
    assert plugins._compiled(*ASKED)[0] == f"accel_{KERNEL}_float16"
    entry, text = plugins._compiled(KERNEL, "float32", *ASKED[2:])
    assert f".visible .entry {entry}(" in text


@pytest.mark.parametrize(
    ("at", "other"),
    [(0, "bias_gelu"), (2, json.dumps({"of": "another"})), (3, "9.0"), (4, "8.4")],
    ids=["kernel", "constants", "compute capability", "older driver"],
)
def test_what_it_has_not_is_compiled_here(bare: Path, at: int, other: str) -> None:
    """Nothing is taken for something else: another kernel, constant, GPU or PTX goes to the compiler."""
    asked = list(ASKED)
    asked[at] = other
    with pytest.raises(MissingExtra):
        plugins._compiled(*asked)


USUAL = {"max_output_boxes_per_class": 100, "center_point_box": 0}


@pytest.fixture(scope="module")
def of_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is packed with a graph that states constants which no variant has."""
    pytest.importorskip(
        "numba",
        reason="of the kernels extra, there is no compiler to pack with; instead: test_packed.py",
    )
    ours = {"domain": "accel.kernels"}
    nodes = [
        helper.make_node("ResidualLayerNorm", list("xrgb"), ["y", "s"], **ours, epsilon=1e-5),
        helper.make_node("ResidualLayerNorm", list("yrgb"), ["z", "t"], **ours, epsilon=1e-12),
        helper.make_node(
            "GreedyNms", list("bsit"), ["n", "c"], **ours, max_output_boxes_per_class=7,
            center_point_box=1,
        ),
    ]  # fmt: skip
    names = ("nms", "residual_layernorm")
    own = constants.beyond(names, [helper.make_model(helper.make_graph(nodes, "g", [], []))])
    assert own == {"residual_layernorm": ({"epsilon": 1e-5},)}
    out = tmp_path_factory.mktemp("graph") / "kernels"
    jobs = [one for one in building.jobs(names, [TARGET], own) if one.dtype == "float32"]
    sources = {name: ledger.source_digest(name) for name in names}
    assert building.pack(jobs, out, {}, sources) == ()
    return out


def test_constants_of_the_graphs_own_nodes_come_along(
    of_graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epsilon of 1e-5 beside the variant's 1e-12; one that no node states is not there."""
    monkeypatch.setenv(packed.VARIABLE, str(of_graph))
    found = [
        packed.find("residual_layernorm", "float32", {"epsilon": epsilon}, "8.7", "8.5")
        for epsilon in (1e-12, 1e-5, 1e-6)
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0] != found[1]
    assert found[2] is None


def test_constants_that_no_code_hangs_on_need_not_be_the_packed_ones(
    of_graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many boxes are kept is an argument of the launch: one PTX serves every number."""
    monkeypatch.setenv(packed.VARIABLE, str(of_graph))
    usual = packed.find("nms", "float32", USUAL, "8.7", "8.5")
    other = {"max_output_boxes_per_class": 7, "center_point_box": 1}
    assert usual is not None
    assert packed.find("nms", "float32", other, "8.7", "8.5") == usual


def test_other_sources_are_compiled_here(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that was edited since is not the one that was packed."""
    monkeypatch.setattr(packed.ledger, "source_digest", lambda _: "edited")
    with pytest.raises(MissingExtra):
        plugins._compiled(*ASKED)


def test_a_file_that_was_changed_is_refused(bare: Path) -> None:
    """Its digest stands in the manifest: neither it nor a stand-in is run."""
    (place,) = bare.glob(f"*/accel_{KERNEL}_float16_0.ptx")
    before = place.read_bytes()
    place.write_bytes(before.replace(b"add", b"sub"))
    try:
        with pytest.raises(CandidateBroken, match=r"is not what was compiled.*unset ACCEL_PTX"):
            plugins._compiled(*ASKED)
    finally:
        place.write_bytes(before)


def test_finishing_names_the_kernels_of_its_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Child processes see it, what a user names stays, and nothing is left behind."""
    show = [sys.executable, "-c", f"import os; print(os.environ.get({packed.VARIABLE!r}))"]
    seen = lambda: subprocess.check_output(show, env=child.environment(), text=True)  # noqa: E731
    monkeypatch.delenv(packed.VARIABLE, raising=False)
    with finishing.compiled(tmp_path):
        assert seen() == f"{tmp_path / 'kernels'}\n"
    assert seen() == "None\n"
    monkeypatch.setenv(packed.VARIABLE, "mine")
    with finishing.compiled(tmp_path):
        assert seen() == "mine\n"
    assert seen() == "mine\n"
