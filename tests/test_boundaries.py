"""What the house promises about itself: start-up, files, names."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import accel

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "nncf", "numpy", "scipy", "rich")


@pytest.mark.parametrize("words", [["--help"], ["list", "engines"], ["list", "recipes", "--json"]])
def test_nothing_heavy_is_imported_to_answer_quickly(words: list[str]) -> None:
    """Help and lists load no library but click."""
    code = f"""
import sys
from accel import cli
sys.argv = ["accel", *{words!r}]
try:
    cli.main()
except SystemExit:
    print("loaded:", *[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)
"""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stderr.rstrip().endswith("loaded:")


def test_every_public_name_exists() -> None:
    """What __all__ promises can be had."""
    assert all(getattr(accel, name) is not None for name in accel.__all__)


@pytest.mark.parametrize("name", [n for n in accel.__all__ if n.islower()])
def test_no_verb_insists_on_a_path(name: str) -> None:
    """What takes a path takes a text as well, and the other way round for a workload or a .npz."""
    words = inspect.signature(getattr(accel, name)).parameters.values()
    kinds = {word.name: str(word.annotation).split(" | ") for word in words}
    assert not [n for n, kind in kinds.items() if "Path" in kind and "str" not in kind]
    files = {
        n: kind for n, kind in kinds.items() if n in ("data", "source", "out", "work", "config")
    }
    assert not [n for n, kind in files.items() if "str" in kind and "Path" not in kind]


def test_files_stay_small() -> None:
    """A file over 320 lines lacks a noun."""
    files = [p for folder in ("accel", "kernels") for p in (ROOT / folder).rglob("*.py")]
    sizes = {p.name: len(p.read_text(encoding="utf-8").splitlines()) for p in files}
    assert {n: s for n, s in sizes.items() if s > 320} == {}
