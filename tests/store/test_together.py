"""Runs in one work folder: beside each other, beside a pruner, behind damage, and without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import kills
import pytest
import running

from accel import cache, using

pytestmark = pytest.mark.slow


def counts(said: str) -> list[int]:
    """Of a run's last note: steps reused, steps asked for, steps made."""
    [line] = [x for x in said.splitlines() if x.startswith("note: reused ")]
    return [int(n) for n in re.findall(r"\d+", line)[:3]]


def test_a_pruner_takes_nothing_from_a_run_under_way(tmp_path: Path) -> None:
    """What it has asked for stays while it lives, however often all else is removed beside it."""
    work, taken = tmp_path / "work", 0
    run = running.Run(running.optimize(tmp_path, work))
    while run.process.poll() is None:
        before = using.names(work / "store")
        if not before:
            continue
        removed = {e.path.name for e in cache.prune(work, 0, 0.0).removed}
        if using.names(work / "store"):  # it still lives
            assert not removed & before
            taken += len(removed)
    code, said = run.ended()
    assert code == 0, said
    words = running.accel("verify", str(tmp_path / "release"))
    assert subprocess.run(words, env=running.environment(), check=False).returncode == 0
    assert taken <= 2  # epochs, whose values the run has taken out
    assert list((work / "store" / using.FOLDER).iterdir()) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run has left."""
    folder = tmp_path_factory.mktemp("finished")
    code, said = running.Run(running.optimize(folder, folder / "work")).ended()
    assert code == 0, said
    return folder


def test_damage_is_mentioned_and_mended(finished: Path) -> None:
    """A step whose file was cut is made again, said so at the end of the run, and lies in quarantine."""
    before = kills.digests(finished)
    [step] = [e.path for e in cache.entries(finished / "work", 0.0) if e.verb == "export"]
    graph = step / "model.onnx"
    os.truncate(graph, graph.stat().st_size - 1)
    code, said = running.Run(running.optimize(finished, finished / "work", "again")).ended()
    assert code == 0, said
    assert counts(said)[2] == 1
    assert f"damaged: {step.name} (it differs from its digests in model.onnx)" in said
    assert len(list((finished / "work" / "store" / "quarantine").iterdir())) == 1
    steps = [
        {n: f for n, f in found.items() if n != "release"}
        for found in (before, kills.digests(finished))
    ]
    assert steps[0].keys() <= steps[1].keys()  # epochs that were pruned may be there again
    assert all(steps[1][name] == files for name, files in steps[0].items())


def test_two_runs_share_their_steps_and_need_no_network(tmp_path: Path) -> None:
    """Started at once on one work folder: each step is made by one of them, and read by the other."""
    alone = ["unshare", "-rn"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []  # then this test says nothing of the network; tests/measure/test_child.py does
    names = ("one", "two")
    words = [running.optimize(tmp_path, tmp_path / "work", name) for name in names]
    runs = [running.Run(one, alone) for one in words]
    ended = [run.ended() for run in runs]
    assert [code for code, _ in ended] == [0, 0], ended
    (_, total, made), (_, other_total, other_made) = (counts(said) for _, said in ended)
    assert total == other_total == made + other_made
    one, two = (json.loads((tmp_path / n / "accel.json").read_text()) for n in names)
    assert one["artefacts"] == two["artefacts"]
    assert one["measurements"] == two["measurements"]
    assert cache.verify(tmp_path / "work").damaged == {}
