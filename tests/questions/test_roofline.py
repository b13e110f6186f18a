"""accel inspect --roofline: the numbers, the words, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from accel import testing
from accel.cli import cli
from accel.errors import UsageError
from accel.questions import roofline

TARGET = """
description = "a made-up accelerator"
engines = ["onnxruntime_cpu"]
local = false
memory_bytes = 1000000
sources = ["made up for a test"]
[peaks]
float32_ops_per_s = 1e9
bytes_per_s = 1e9
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    """Every rate is 1e9: an operation or a byte is a nanosecond."""
    (tmp_path / "made-up.toml").write_text(TARGET)
    return str(tmp_path / "made-up.toml")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x [batch, 8] -> MatMul, Relu, MatMul -> y [batch, 4]."""
    return testing.mlp(tmp_path / "m.onnx").path


def invoke(*words: str) -> Result:
    """A command in this process."""
    return CliRunner().invoke(cli, ["inspect", *words])


def test_axes_are_one_unless_told(model: Path, target: str) -> None:
    """200 operations a row; 384 bytes of weights and 48 a row: memory bounds one, compute ten."""
    one = roofline.ask(model, target, {})
    assert (one.sizes, one.floor.least_s, one.floor.bound) == ({"batch": 1}, 432e-9, "memory")
    ten = roofline.ask(model, target, {"batch": 10})
    assert (ten.floor.least_s, ten.floor.bound) == (pytest.approx(2000e-9), "compute")
    assert ten.peak.weights_bytes == 384


def test_the_text_tells_the_floors_and_the_memory(model: Path, target: str) -> None:
    """Microseconds, what bounds them, each operator, and the peak against the target's memory."""
    found = invoke(str(model), "--roofline", "--target", target, "--size", "batch=10")
    assert found.exit_code == 0, found.output
    assert "least: 2.00 us, bound by compute" in found.output
    assert "2 MatMul" in found.output
    assert "of 1 MB" in found.output


def test_the_document_has_every_node(model: Path, target: str) -> None:
    """One JSON document, of every node with its operations, bytes and floor."""
    found = invoke(str(model), "--roofline", "--target", target, "--json")
    data = json.loads(found.stdout)["data"]
    nodes = data["floor"]["nodes"]
    assert [n["work"]["operator"] for n in nodes] == ["MatMul", "Relu", "MatMul"]
    assert [n["work"]["operations"] for n in nodes] == [128, 8, 64]
    assert all(n["floor_s"] > 0 for n in nodes)


def test_a_missing_rate_is_told(model: Path, target: str) -> None:
    """The profile's lack is in the text, by the key that would mend it."""
    text = Path(target).read_text()
    Path(target).write_text(text.replace("float32_ops", "int8_ops"))
    found = invoke(str(model), "--roofline", "--target", target)
    assert "not in the profile, and not counted: float32_ops_per_s" in found.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--roofline", "--size", "batsh=2"], "Did you mean 'batch'"),
        (["--roofline", "--size", "batch"], "batch=8, not 'batch'"),
        (["--roofline", "--size", "batch=0"], "1 at least, not 0"),
        (["--roofline", "--size", f"batch={2**63}"], f"{2**63 - 1} at most"),
        (["--roofline", "--size", "batch=2", "--size", "batch=3"], "gives 'batch' twice"),
        (["--size", "batch=2"], "belong to --roofline"),
    ],
)
def test_wrong_words_are_refused(model: Path, target: str, words: list[str], said: str) -> None:
    """With what was seen, and what is allowed."""
    extra = ["--target", target] if "--roofline" in words else []
    found = invoke(str(model), *words, *extra)
    assert isinstance(found.exception, UsageError)
    assert said in str(found.exception)
