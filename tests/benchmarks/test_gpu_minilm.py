"""The whole-model rows of the GPU bench, on a CPU: a small encoder, a fake clock."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from accel.cuda import timing
from accel.cuda.timing import Timed
from accel.values import Port

ROOT = Path(__file__).parents[2]
BLOCK = """
import numpy as np
import torch

outputs = ("y",)

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up = torch.nn.LayerNorm(16, eps=1e-6), torch.nn.Linear(16, 24)

    def forward(self, x):
        return torch.nn.functional.gelu(self.up(self.norm(x + x.flip(-1))))

def model():
    torch.manual_seed(0)
    return Block().eval()

def requests():
    return [(f"batch {n}", 0.5, {"x": np.ones((n, 3, 16), np.float32)}) for n in (1, 4)]
"""
PORTS = (Port("x", "float32", ("batch", "sequence", 16)),), (Port("y", "float32", ()),)


@pytest.fixture(scope="module")
def minilm() -> Any:
    """benchmarks/gpu/minilm.py, which is in no package."""
    path = ROOT / "benchmarks" / "gpu" / "minilm.py"
    spec = importlib.util.spec_from_file_location("gpu_minilm", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_minilm"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


class FakeEvent:
    """A CUDA event's time, taken from the host's clock."""

    def record(self) -> None:
        """Now."""
        self.at = time.perf_counter()

    def elapsed_time(self, later: FakeEvent) -> float:
        """Milliseconds."""
        return (later.at - self.at) * 1e3


def test_every_arm_is_built_checked_and_timed(
    minilm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels take their sites and answer as eager does; an arm that cannot be built says why."""
    monkeypatch.setattr(timing, "_event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    source = tmp_path / "block.py"
    source.write_text(BLOCK)
    arms = {
        "kernels": {"compiler": "aot_inductor", "kernels": True},
        "made up": {"compiler": "jit"},
    }
    found = minilm.measured(source, PORTS, "cpu", arms, rounds=2, budget_s=600.0)
    assert [row.load for row in found.rows] == ["batch 1", "batch 4"]
    assert all(set(row.arms) == {"eager", "kernels"} for row in found.rows)
    assert (found.sites["residual_layernorm"], found.sites["bias_gelu"]) == (1, 1)
    assert found.wrong == ()
    assert "must be 'aot_inductor'" in found.refused["made up"]
    late = minilm.measured(source, PORTS, "cpu", arms, rounds=2, budget_s=-1.0)
    assert set(late.refused.values()) == {"the time for building was up"}
    assert all(set(row.arms) == {"eager"} for row in late.rows)


def test_without_a_gpu_the_reason_stands_there(minilm: Any) -> None:
    """Nothing is timed on the processor in its place."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here; instead: make gpu-bench times on it")
    assert minilm.lines(minilm.measured())[-1] == "eager: not timed: torch sees no GPU here"


def test_an_arm_that_answers_otherwise_is_marked(minilm: Any) -> None:
    """In the table, and for whoever fails the run."""
    timed = Timed((1e-3, 1e-3), 1e-4, 0.0)
    row = minilm.Row("[1, 128]", {"eager": timed, "kernels": timed}, {"kernels": float("nan")})
    found = minilm.Whole((row,), {"bias_gelu": 6})
    assert found.wrong == ("[1, 128], kernels: nan",)
    text = minilm.lines(found)
    assert text[1] == "kernels at 6 bias_gelu"
    assert text[-1].split("  ")[-1] == "WRONG: differs from eager by nan, allowed is 0.0001"


def test_the_workload_is_minilm_in_size(minilm: Any) -> None:
    """22.7 million parameters, as sentence-transformers/all-MiniLM-L6-v2 has."""
    pytest.importorskip(
        "transformers",
        reason="of the examples extra; instead: test_every_arm_is_built_checked_and_timed",
    )
    from accel import workload

    problem = workload.load(str(minilm.SOURCE))
    assert sum(p.numel() for p in problem.model().parameters()) == 22_713_216
    shapes = [r.inputs["input_ids"].shape for r in workload.requests(problem)]
    assert shapes == [(1, 128), (8, 128)]
