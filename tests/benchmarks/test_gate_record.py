"""Recording a stream: its arms, a run that goes on, and the neighbour."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from onnx import TensorProto, helper

from accel import graph, target
from accel.errors import UsageError
from accel.evidence import CANDIDATE, SHADOW, Rules, Subject
from accel.gating import chain
from accel.steps import build
from accel.values import Model, Request

_spec = importlib.util.spec_from_file_location(
    "gate_streams", Path(__file__).with_name("gate_streams.py")
)
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)
arms, record, neighbour, stream = (
    made.script(n) for n in ("arms", "record", "neighbour", "stream")
)

FEED = {"x": np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """y = Relu(x) + 1, x: [1, 16]."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Add", ["r", "one"], ["y"]),
    ]
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 16]) for n in "xy"]
    proto = helper.make_model(
        helper.make_graph(nodes, "tiny", ports[:1], ports[1:], [one]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = tmp_path_factory.mktemp("tiny") / "model.onnx"
    onnx.save(proto, path)
    return graph.describe(path)


@pytest.fixture(scope="module")
def tiny(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The model, built for ONNX Runtime."""
    out = tmp_path_factory.mktemp("plan")
    asked = [Request("one", 1.0, FEED)]
    plan = build.build(
        model, "onnxruntime_cpu", target.load("cpu-local"), {"threads": 1}, asked, out
    )
    found: Subject = arms.subject("tiny", plan)
    return found


def test_extra_nodes_stay_and_change_nothing(model: Model, tmp_path: Path) -> None:
    """ONNX Runtime keeps each of them, and the answers are the same, bit by bit."""
    slower = arms.with_nodes(model, 16, tmp_path)
    assert graph.operators(graph.open_model(slower.path))["Mul"] == 32
    first, second = (
        onnxruntime.InferenceSession(str(m.path), providers=["CPUExecutionProvider"]).run(
            None, FEED
        )
        for m in (model, slower)
    )
    np.testing.assert_array_equal(first[0], second[0])


def test_nodes_that_the_runtime_removes_are_an_error(model: Model) -> None:
    """A graph without the nodes is not taken for one with them."""
    with pytest.raises(RuntimeError, match="kept 0 of 32 extra nodes"):
        arms._survives(model.path, 32)


def test_the_sentences_are_spread_over_the_lengths() -> None:
    """The shortest and the longest are among them, batches are not, and weights sum to one."""
    singles = [
        Request("sentence", 0.01, {"input_ids": np.zeros((1, n), np.int64)}) for n in range(3, 67)
    ]
    batch = Request("batch 8x128", 0.05, {"input_ids": np.zeros((8, 128), np.int64)})
    found = arms.chosen("minilm", [*reversed(singles), batch])
    lengths = [r.inputs["input_ids"].shape[1] for r in found]
    assert (len(found), lengths[0], lengths[-1]) == (8, 3, 66)
    assert lengths == sorted(lengths)
    assert sum(r.weight for r in found) == pytest.approx(1.0)


def test_an_aa_stream_is_one_artefact_three_times(tiny: Subject) -> None:
    """Baseline, candidate and shadow are the same, and nothing is stretched."""
    team, lag = record.cast("aa", {"plain": tiny})
    assert list(team) == ["baseline", "candidate", "shadow"]
    assert {id(s) for s in team.values()} == {id(tiny)}
    assert lag == {}


def test_a_power_stream_has_slowdowns_and_controls(tiny: Subject) -> None:
    """Each lag is a share, and a few arms can be chosen; an unknown one is refused by name."""
    variants = dict.fromkeys(arms.VARIANTS, tiny)
    team, lag = record.cast("power", variants)
    assert lag == {f"lag{p}": p / 100 for p in (0, 1, 2, 3, 5, 10)}
    assert {"nodes", "one_thread", "unfused"} < set(team)
    few, lag = record.cast("power", variants, "lag0,lag5")
    assert list(few) == ["baseline", "lag0", "lag5"]
    assert lag == {"lag0": 0.0, "lag5": 0.05}
    with pytest.raises(SystemExit, match="No arms named lag7"):
        record.cast("power", variants, "lag7")


def test_a_recording_goes_on(tiny: Subject, tmp_path: Path) -> None:
    """A second run keeps the epochs that are there, adds the rest, and clears what a kill left."""
    asked = argparse.Namespace(workload="tiny", condition="idle", kind="aa")
    requests, rules = (Request("one", 1.0, FEED),), Rules(rounds=2, block_s=0.001, warmup_calls=1)
    team, lag = record.cast("aa", {"plain": tiny})
    chain.create(tmp_path, record.header(asked, team, lag, requests, rules))
    record.record(tmp_path, team, lag, requests, rules, 1, 600)
    (first,) = chain.read(tmp_path)[1]
    (tmp_path / "copies-killed").mkdir()
    chain.create(tmp_path, record.header(asked, team, lag, requests, rules))
    record.record(tmp_path, team, lag, requests, rules, 2, 600)
    told, (again, second), head = chain.read(tmp_path)
    assert again == first
    assert second.number == 1
    assert not (tmp_path / "copies-killed").exists()
    stream.write(tmp_path / "s.csv", {**told, "head": head}, (again, second))
    rebuilt = stream.to_epochs(tmp_path / "s.csv")
    assert [SHADOW in e.logs for e in rebuilt] == [True, False]  # every third epoch has it
    for a, b in zip((again, second), rebuilt, strict=True):
        for metric in ("p50", "cold_start", "peak_memory"):  # 10 ns of a call of some us
            assert b.logs[CANDIDATE][metric] == pytest.approx(a.logs[CANDIDATE][metric], abs=0.01)
        assert b.order == a.order
    other = record.header(asked, team, lag, requests, Rules(rounds=3))
    with pytest.raises(UsageError, match="rules"):
        chain.create(tmp_path, other)


def test_models_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    """Where the last file of a preparation lies, no process is started."""
    (tmp_path / arms.ARMS).write_text("{}")
    record.prepared("no such workload", tmp_path)


def test_what_was_prepared_is_read_back(tiny: Subject, tmp_path: Path) -> None:
    """Subjects and requests come back as they were, from paths relative to the folder."""
    from accel import arrays, manifest

    arrays.save(tmp_path / arms.REQUESTS, [FEED])
    told: dict[str, Any] = {"requests": [{"group": "one", "weight": 1.0}], "arms": {"plain": tiny}}
    (tmp_path / arms.ARMS).write_text(manifest.text(told, tmp_path))
    found, (request,) = arms.load(tmp_path)
    assert found["plain"] == tiny
    assert (request.group, request.weight) == ("one", 1.0)
    np.testing.assert_array_equal(request.inputs["x"], FEED["x"])


def test_the_neighbour_ends_with_its_block() -> None:
    """It runs inside the block, and is gone behind it."""
    with neighbour.running(3) as pid:
        assert psutil.Process(pid).is_running()
    assert not psutil.pid_exists(pid)


def test_the_neighbour_ends_with_its_parent() -> None:
    """One whose parent is another process than it was told ends by itself."""
    words = [sys.executable, str(made.GATE / "neighbour.py"), "3", str(os.getppid())]
    assert subprocess.run(words, timeout=60).returncode == 0
