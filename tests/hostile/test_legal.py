"""The control: what is legal is accepted, by the word of ONNX Runtime and of onnx's own test data."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnxruntime
import pytest

from accel.errors import AccelError
from accel.questions.inspect import inspect
from tests.hostile.case import Case
from tests.hostile.corpus import CORPUS

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
GRAPHS = sorted(DATA.glob("*/*/model.onnx")) + sorted(DATA.glob("light/*.onnx"))
NOT_HERE = {  # legal by ONNX, and without a kernel in ONNX Runtime's CPU build
    "ports of type 16": "no Relu of bfloat16",
}
LEGAL = [c for c in CORPUS if c.verdict == "accept" and c.command == ("inspect", "{}")]


def _runs(model: Path) -> str:
    """Why ONNX Runtime does not load a graph; empty where it does."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.graph_optimization_level = level
    try:
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base
        return str(error)
    return ""


@pytest.mark.parametrize("case", LEGAL, ids=lambda case: case.name)
def test_what_the_corpus_calls_legal_is(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime loads it, but for the few that it has no kernel for."""
    monkeypatch.chdir(tmp_path)
    made = case.make(tmp_path)
    refused = _runs(made)
    assert bool(refused) == (case.name in NOT_HERE), refused


def test_no_graph_of_onnx_is_refused_that_onnxruntime_runs() -> None:
    """All of the wheel's test data: light, simple, pytorch-converted and pytorch-operator."""
    refused = {}
    for path in GRAPHS:
        try:
            inspect(path)
        except AccelError as error:
            refused[os.fspath(path.relative_to(DATA))] = str(error)
    assert len(GRAPHS) > 100
    assert {name: why for name, why in refused.items() if not _runs(DATA / name)} == {}
