"""accel inspect: what is in a file, counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel import testing
from accel.errors import BadModel
from accel.questions.inspect import inspect


def test_ports_operators_and_parameters_are_those_of_the_file(tmp_path: Path) -> None:
    """Counted by hand: two MatMuls and a Relu, 8 x 8 + 8 x 4 float32 parameters."""
    path = tmp_path / "m.onnx"
    model = testing.mlp(path)
    found = inspect(path)
    assert (found.inputs, found.outputs) == (model.inputs, model.outputs)
    assert found.operators == {"MatMul": 2, "Relu": 1}
    assert found.parameters == 8 * 8 + 8 * 4
    assert found.dtypes == {"float32": 96}
    assert found.opsets == {"ai.onnx": 17}
    assert found.size_bytes == path.stat().st_size


def test_weights_beside_the_file_count(tmp_path: Path) -> None:
    """The size is of all the files; the digest is of what is computed, wherever weights lie."""
    import onnx

    inline, beside = tmp_path / "a" / "m.onnx", tmp_path / "b" / "m.onnx"
    testing.mlp(inline, width=64)
    beside.parent.mkdir()
    onnx.save(
        onnx.load(inline), beside, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    found = inspect(beside)
    parts = beside.stat().st_size + (beside.parent / "w.bin").stat().st_size
    assert found.size_bytes == parts
    assert (found.parameters, found.digest) == (inspect(inline).parameters, inspect(inline).digest)


def test_asking_changes_nothing(tmp_path: Path) -> None:
    """The folder holds the same bytes afterwards, and no new file."""
    path = tmp_path / "m.onnx"
    testing.mlp(path)
    before = path.read_bytes()
    inspect(path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer"),
        (b"<html>", "HTML page"),
        (b"PK\x03\x04", "zip archive"),
        (b"\x80\x02", "pickle"),
        (b"\x08\x08garbage", "not a whole ONNX model"),
    ],
)
def test_strangers_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    """What only looks like a model by its name is told for what it is."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModel, match=said):
        inspect(path)


def test_a_path_may_be_a_text(tmp_path: Path) -> None:
    """Both are a file's name."""
    path = tmp_path / "m.onnx"
    testing.mlp(path)
    assert inspect(str(path)) == inspect(path)
