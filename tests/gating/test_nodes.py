"""Which nodes are slower: the ranking on made-up times, the names from a real profile."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from accel import graph, testing
from accel.errors import EnvironmentProblem
from accel.evidence import Subject
from accel.gating import nodes


def test_the_node_that_lost_the_most_stands_first() -> None:
    """Quicker ones are left out, and only five are told."""
    there = {f"MatMul m{i}": 1e-3 for i in range(9)}
    here = {f"MatMul m{i}": (0.5 + i) * 1e-3 for i in range(9)}
    told = nodes.ranked(there, here)
    assert told[0] == "MatMul m8: 1.000 -> 8.500 ms"
    assert len(told) == 5
    assert nodes.ranked(here, there) == ("MatMul m0: 0.500 -> 1.000 ms",)


def test_nodes_of_other_names_are_compared_by_operator() -> None:
    """A fusion renames what it makes: sums of each operator, with how many there are."""
    there = {"Conv a": 1e-3, "Conv b": 1e-3, "Relu r": 1e-3}
    here = {"Conv a_fused": 2e-3, "Conv b_fused": 3e-3, "Cast c": 1e-3}
    assert nodes.ranked(there, here) == (
        "Conv, nodes of other names: 2 -> 2, 2.000 -> 5.000 ms",
        "Cast, nodes of other names: 0 -> 1, 0.000 -> 1.000 ms",
        "no longer there: Relu 1 (1.000 ms)",
    )


def _subject(path: Path) -> Subject:
    model = graph.describe(path)
    asked = tuple(testing.request(model, batch=n, weight=0.5) for n in (1, 4))
    return Subject(path.stem, path, model.digest, testing.plan(model), asked)


def test_a_node_that_was_added_is_found_in_the_profile(tmp_path: Path) -> None:
    """Both graphs run under ONNX Runtime's profiler in processes of their own."""
    testing.mlp(tmp_path / "a.onnx")
    proto = onnx.load(tmp_path / "a.onnx")
    proto.graph.node[-1].output[0] = "h"
    proto.graph.node.append(helper.make_node("Erf", ["h"], ["y"], name="added"))
    onnx.save(proto, tmp_path / "b.onnx")
    one, other = _subject(tmp_path / "a.onnx"), _subject(tmp_path / "b.onnx")
    told = nodes.slower(other, one, tmp_path / "run.log")
    assert any(line.startswith("Erf, nodes of other names: 0 -> 1") for line in told)


@pytest.mark.parametrize("error", [EnvironmentProblem("full"), OSError(28, "full")])
def test_a_profile_that_fails_costs_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever happens to it, it is a line."""

    def fails(*_: Any, **__: Any) -> None:
        raise error

    testing.mlp(tmp_path / "a.onnx")
    one = _subject(tmp_path / "a.onnx")
    monkeypatch.setattr(nodes.child, "call", fails)
    assert "cannot be told" in nodes.slower(one, one, tmp_path / "run.log")[0]


def test_where_no_node_can_be_told_the_reason_is(tmp_path: Path) -> None:
    """Another engine, and a graph that does not run."""
    testing.mlp(tmp_path / "a.onnx")
    one = _subject(tmp_path / "a.onnx")
    assert one.plan is not None
    foreign = dataclasses.replace(one, plan=dataclasses.replace(one.plan, engine="openvino"))
    assert "onnxruntime_cpu only" in nodes.slower(foreign, one, tmp_path / "run.log")[0]
    (tmp_path / "a.onnx").write_bytes(b"no model")
    assert "cannot be told" in nodes.slower(one, one, tmp_path / "run.log")[0]
