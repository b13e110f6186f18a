"""`accel kernels` list, build and check: on a kernel of four lines, right and wrong, and ours."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from accel import catalog
from accel.cli import cli
from accel.errors import UsageError

DOUBLE = '''"""double: y = factor * x

x, y: any shape."""
import numpy as np
from numba import cuda

from accel.cuda.geometry import cdiv, product
from accel.kernels._device import f32, get, i32, put, stored
from accel.protocols import Case, Launch, Signature

OP, DTYPES, TOLERANCE = "Double", ("float32", "float16"), {"float32": 1e-6, "float16": 1e-3}
VARIANTS = ({"factor": 2.0}, {"factor": 4.0})

def signature(dtype, baked):
    return Signature((("x", dtype),), ("n",), (("y", dtype),))

def output_shapes(shapes, baked):
    return {"y": shapes["x"]}

def launch(shapes, dtype, baked):
    n = product(shapes["x"])
    return Launch((cdiv(n, 64), 1, 1), (64, 1, 1), (n,))

def reference(inputs, baked):
    return {"y": baked["factor"] * inputs["x"].astype(np.float64)}

def source(dtype, baked):
    factor = baked["factor"]

    def double(x, n, y):
        i = i32(cuda.blockIdx.x) * i32(64) + i32(cuda.threadIdx.x)
        if i < n:
            put(y, i, get(x, i) * f32(factor))

    return double

def cases(dtype):
    yield Case("odd", {"x": stored(np.arange(77.0), dtype).reshape(7, 11)})
    yield Case("four times", {"x": stored(np.ones(3), dtype)}, VARIANTS[1])
'''
WRONG = DOUBLE.replace("get(x, i) *", "get(x, i + (i == 9)) *").replace("double:", "wrong:")
BROKEN = DOUBLE.replace("    def double", "    if dtype == 'float16':\n        raise KeyError(dtype)\n\n    def double")  # fmt: skip
OUTSIDE = DOUBLE.replace("get(x, i)", "get(x, i + 1)")


@pytest.fixture(scope="module")
def kernels(copy: Any) -> Any:
    """A copy of the package with four kernels more."""
    folder = copy.folder / "accel" / "kernels"
    texts = {"double": DOUBLE, "wrong": WRONG, "broken": BROKEN, "outside": OUTSIDE}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return copy


def accel(kernels: Any, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "accel", "kernels", *words],
        cwd=kernels.folder,
        env={**os.environ, "PYTHONPATH": str(kernels.folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def invoke(*words: str) -> Result:
    """Without a process of its own; an AccelError is left in `exception`."""
    return CliRunner().invoke(cli, ["kernels", *words])


def test_list_tells_each_kernel() -> None:
    """Every one, by its algebra, dtypes and geometry; the JSON holds the same."""
    found = invoke("list", "--json")
    assert found.exit_code == 0, found.exception
    data = json.loads(found.stdout)["data"]
    assert [k["name"] for k in data] == list(catalog.names("kernels"))
    assert all(k["algebra"] and k["dtypes"] and k["grid"] for k in data)
    assert invoke("list").stdout == found.stderr


def test_geometry_reads_as_formulas(kernels: Any) -> None:
    """Sizes that are not known have names; ceil is told as ceil."""
    found = accel(kernels, "list", "--kernel", "double", "--kernel", "residual_layernorm")
    assert found.stdout.splitlines()[:7] == [
        "double (Double): float32, float16",
        "  y = factor * x",
        "  baked: factor 2.0",
        "  baked: factor 4.0",
        "  for x [x0, 11]",
        "  grid ceil(x0*11 / 64), block 64",
        "  scalars: n = x0*11",
    ]
    assert "  grid ceil(x0*x1 / 4), block 32 x 4" in found.stdout


def test_build_writes_what_its_manifest_tells(kernels: Any) -> None:
    """PTX of the target's version and a cubin for each dtype and variant; the digests are right."""
    words = ("--kernel", "double", "--target", "jetson-orin-nano", "--out", "built", "--json")
    found = accel(kernels, "build", *words)
    assert found.returncode == 0, found.stderr
    assert "[4/4] double float16 factor=4.0 for jetson-orin-nano" in found.stderr
    out = kernels.folder / "built"
    told = json.loads((out / "manifest.json").read_text())["data"]
    assert len(told["kernels"]) == 4
    assert list(told["sources"]) == ["double"]
    for made in told["kernels"]:
        assert (made["compute_capability"], made["ptx_version"]) == ("8.7", "8.5")
        for name, digest in made["sha256"].items():
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
        [text] = [(out / n).read_text() for n in made["sha256"] if n.endswith(".ptx")]
        assert f".visible .entry {made['entry']}(" in text
        assert ".version 8.5\n.target sm_87\n" in text
    assert sum(p.is_file() for p in out.rglob("*")) == 2 * 4 + 1
    [row, *_] = json.loads(found.stdout)["data"]["ledger"]["rows"]
    assert row["threads"] == 64
    assert row["cells"]["sm_87, PTX 8.5"]["spill_bytes"] == 0


def test_gpus_of_one_kind_are_built_once(kernels: Any) -> None:
    """Two profiles of one capability and PTX version: a folder each, the same bytes, one column."""
    words = (
        "--kernel",
        "double",
        "--target",
        "h100",
        "--target",
        "h200",
        "--out",
        "twins",
        "--json",
    )
    found = accel(kernels, "build", *words)
    assert found.returncode == 0, found.stderr
    assert "[4/4]" in found.stderr
    files = {n: (kernels.folder / "twins" / n).iterdir() for n in ("h100", "h200")}
    h100, h200 = ({p.name: p.read_bytes() for p in paths} for paths in files.values())
    assert h100 == h200
    assert len(h100) == 2 * 4
    [row, *_] = json.loads(found.stdout)["data"]["ledger"]["rows"]
    assert list(row["cells"]) == ["sm_90, PTX 9.0"]


def test_one_that_fails_is_named_and_the_rest_goes_on(kernels: Any) -> None:
    """Exit 6; two rows are built, two are refused with the reason, the ledger is left alone, and what
    is not whole gets no manifest."""
    words = ("--kernel", "broken", "--json", "--quiet", "--ledger", "new.json", "--out", "part")
    found = accel(kernels, "build", *words)
    assert found.returncode == 6
    data = json.loads(found.stdout)["data"]
    assert {r["dtype"] for r in data["ledger"]["rows"]} == {"float32"}
    assert data["refused"][0]["reason"] == "its source fails: KeyError: 'float16'"
    assert "could not be built: broken float16 factor=2.0 for t4" in found.stderr
    assert "new.json is left as it was" in found.stderr
    assert not (kernels.folder / "new.json").exists()
    assert len(list((kernels.folder / "part" / "t4").iterdir())) == 2 * 2
    assert not (kernels.folder / "part" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "--target", "cpu-local"], "cpu-local gives no compute_capability.*t4, a100"),
        (["build", "--target", "h1000"], "Did you mean 'h100'.*Run: accel list targets"),
        (["build", "--target", "t4", "--ledger", "x.json"], "The ledger holds every GPU"),
        (["build", "--kernel", "residual_layernrom"], "Did you mean 'residual_layernorm'"),
        (["check", "--kernel", "nothing"], "No kernel named 'nothing'"),
        (["list", "--kernel", "nothing"], "Run: accel list kernels"),
    ],
)
def test_wrong_words_are_refused(words: list[str], said: str) -> None:
    """What was asked, what is allowed, the nearest name."""
    with pytest.raises(UsageError, match=said):
        raise invoke(*words).exception or AssertionError("it was taken")


def test_check_passes_what_is_right(kernels: Any) -> None:
    """Exit 0: every dtype and case, the error as a share of the allowed one."""
    found = accel(kernels, "check", "--kernel", "double", "--json")
    assert found.returncode == 0, found.stderr
    data = json.loads(found.stdout)["data"]
    assert [(t["dtype"], t["case"], t["form"]) for t in data] == [
        (dtype, case, form)
        for dtype in ("float32", "float16")
        for case in ("odd", "four times")
        for form in ("compiled", "source")
    ]
    assert all(t["right"] and t["excess"] <= 1 and t["threads"] for t in data)
    assert "8 of 8 are right" in found.stderr


def test_check_names_what_is_wrong(kernels: Any) -> None:
    """Exit 1: one element of one case is another's; an access outside of an array is told as that."""
    found = accel(kernels, "check", "--kernel", "wrong", "--kernel", "outside", "--json", "--quiet")
    assert found.returncode == 1
    data = {
        (t["kernel"], t["dtype"], t["case"], t["form"]): t for t in json.loads(found.stdout)["data"]
    }
    for form in ("source", "compiled"):
        assert not data["wrong", "float32", "odd", form]["right"]
        assert data["wrong", "float32", "odd", form]["output"] == "y"
        assert data["wrong", "float32", "four times", form]["right"]
    assert "element 77 of 77" in data["outside", "float32", "odd", "source"]["reason"]
    assert "reads where no array" in data["outside", "float32", "odd", "compiled"]["reason"]
    assert "12 of 16 are wrong: wrong float32, odd" in found.stderr
