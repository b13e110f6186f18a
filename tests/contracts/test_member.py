"""A member is one file: dropped into its folder, it is there, and nothing else was edited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from accel import catalog, testing

ROOT = Path(__file__).parents[2]
SIBLINGS = {
    "recipes": "bf16.py",
    "engines": "reference.py",
    "profiles": "cpu-local.toml",
    "kernels": "residual_layernorm.py",
}


@pytest.fixture(scope="module")
def extended(copy: Any) -> Any:
    """A copy of the package that has three members more."""
    for family, sibling in SIBLINGS.items():
        path = copy.folder / "accel" / family / sibling
        shutil.copyfile(path, path.with_stem("brand_new"))
    return copy


@pytest.mark.parametrize(
    ("words", "family"),
    [
        ("recipes", "recipes"),
        ("engines", "engines"),
        ("targets", "profiles"),
        ("kernels", "kernels"),
    ],
)
def test_a_new_file_is_listed(extended: Any, words: str, family: str) -> None:
    """`accel list` names it beside all the others; they are as they were here."""
    found = extended.run("-m", "accel", "list", words).split()
    assert set(found) == {*catalog.names(family), "brand_new"}


def test_a_new_recipe_works(extended: Any) -> None:
    """`accel quantize --recipe` applies it."""
    testing.mlp(extended.folder / "mlp.onnx")
    words = ("quantize", "mlp.onnx", "--recipe", "brand_new", "--out", "new.onnx", "--json")
    document = json.loads(extended.run("-m", "accel", *words))
    assert (extended.folder / "new.onnx").is_file()
    assert document["data"]["path"].endswith("new.onnx")


def test_a_new_engine_works_for_a_new_target(extended: Any) -> None:
    """It is probed and builds, on a target that is new too."""
    testing.mlp(extended.folder / "mlp.onnx")
    words = ("--engine", "brand_new", "--target", "brand_new", "--out", "plan", "--json")
    document = json.loads(extended.run("-m", "accel", "build", "mlp.onnx", *words))
    assert Path(document["data"]["path"]).parts[-2:] == ("plan", "model.onnx")
    probe = "from accel.questions import doctor; print(doctor.ask('brand_new').usable)"
    assert extended.run("-c", probe).strip() == "True"


def test_a_private_file_is_no_member(extended: Any) -> None:
    """What begins with an underscore helps its neighbours and is not listed."""
    (extended.folder / "accel" / "recipes" / "_brand_new_help.py").write_text("")
    assert "_brand_new_help" not in extended.run("-m", "accel", "list", "recipes")
