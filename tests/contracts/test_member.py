"""A member is one file: dropped into its folder, it is there, and nothing else was edited."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from accel import catalog, testing

ROOT = Path(__file__).parents[2]
SIBLINGS = {"recipes": "bf16.py", "engines": "reference.py", "profiles": "cpu-local.toml"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package (its links followed) that has three members more."""
    folder = tmp_path_factory.mktemp("copy")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "accel", folder / "accel", symlinks=False, ignore=skip)
    for family, sibling in SIBLINGS.items():
        path = folder / "accel" / family / sibling
        shutil.copyfile(path, path.with_stem("brand_new"))
    return folder


def _run(copy: Path, *words: str) -> str:
    """What python prints there, with the copy in front of every other accel."""
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, *words]
    found = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize(
    ("words", "family"),
    [("recipes", "recipes"), ("engines", "engines"), ("targets", "profiles")],
)
def test_a_new_file_is_listed(copy: Path, words: str, family: str) -> None:
    """`accel list` names it beside all the others; they are as they were here."""
    found = _run(copy, "-m", "accel", "list", words).split()
    assert set(found) == {*catalog.names(family), "brand_new"}


def test_a_new_recipe_works(copy: Path) -> None:
    """`accel quantize --recipe` applies it."""
    testing.mlp(copy / "mlp.onnx")
    words = ("quantize", "mlp.onnx", "--recipe", "brand_new", "--out", "new.onnx", "--json")
    document = json.loads(_run(copy, "-m", "accel", *words))
    assert (copy / "new.onnx").is_file()
    assert document["data"]["path"].endswith("new.onnx")


def test_a_new_engine_works_for_a_new_target(copy: Path) -> None:
    """It is probed and builds, on a target that is new too."""
    testing.mlp(copy / "mlp.onnx")
    words = ("--engine", "brand_new", "--target", "brand_new", "--out", "plan", "--json")
    document = json.loads(_run(copy, "-m", "accel", "build", "mlp.onnx", *words))
    assert Path(document["data"]["path"]).parts[-2:] == ("plan", "model.onnx")
    probe = "from accel.questions import doctor; print(doctor.ask('brand_new').usable)"
    assert _run(copy, "-c", probe).strip() == "True"


def test_a_private_file_is_no_member(copy: Path) -> None:
    """What begins with an underscore helps its neighbours and is not listed."""
    (copy / "accel" / "recipes" / "_brand_new_help.py").write_text("")
    assert "_brand_new_help" not in _run(copy, "-m", "accel", "list", "recipes")
