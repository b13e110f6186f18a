"""What a placement says, on made-up ones: every number counted by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from accel import manifest, placement
from accel.values import Candidate, Copied, Model, Placed, Placement, Plan

MIXED = Placement(
    (
        Placed("Conv", 36, "GPU", "CUDAExecutionProvider", "int8", "GPU", "", ("c0", "c1")),
        Placed("Gemm", 1, "GPU", "CUDAExecutionProvider", "float32", "GPU", "int8", ("g",)),
        Placed("Reorder", 1, "GPU", "CUDAExecutionProvider", "int8", "GPU"),
        Placed("NonZero", 2, "CPU", "CPUExecutionProvider", "", "GPU", "", ("n0", "n1")),
    ),
    (Copied("GPU", "CPU", 2, ("NonZero",)), Copied("CPU", "GPU", 1, ("NonZero",))),
    "a made-up runtime",
)


def test_numbers_that_a_gate_can_hold() -> None:
    """Each by a flat name; a node that fell and one that slipped are each counted, and together."""
    assert placement.metrics(MIXED) == {
        "coverage.GPU": 0.95,
        "coverage.CPU": 0.05,
        "nodes": 40,
        "nodes.int8": 37,
        "nodes.unknown": 2,
        "nodes.float32": 1,
        "nodes_fallen": 2,
        "nodes_slipped": 1,
        "nodes_not_as_planned": 3,
        "reformats": 1,
        "copies": 3,
    }
    assert placement.as_planned(MIXED) == 37 / 40
    assert [p.operator for p in placement.fallen(MIXED)] == ["NonZero"]
    assert [p.operator for p in placement.slipped(MIXED)] == ["Gemm"]


def test_a_planned_device_without_a_node_has_no_coverage() -> None:
    """0.0, not absent: a gate on it must find a number that fails."""
    all_fell = Placement((Placed("Conv", 3, "CPU", "x", "float32", "GPU"),))
    assert placement.coverage(all_fell) == {"CPU": 1.0, "GPU": 0.0}


def test_a_placement_of_nothing_divides_by_nothing() -> None:
    """No node, no share, no error."""
    assert placement.coverage(Placement(())) == {}
    assert placement.metrics(Placement(()))["nodes"] == 0
    assert placement.line(Placement(())).startswith("0 nodes")


def test_nodes_alike_are_gathered_and_only_strays_keep_all_their_names() -> None:
    """Counts add, most first; two names stay of those as planned, every name of the others."""
    alike = [Placed("Conv", 1, "CPU", "x", "int8", "CPU", "", (f"c{i}",)) for i in range(9)]
    strays = [Placed("Gemm", 1, "CPU", "x", "float32", "CPU", "int8", (f"g{i}",)) for i in range(5)]
    conv, gemm = placement.gathered([*strays, *alike])
    assert (conv.operator, conv.count, conv.nodes) == ("Conv", 9, ("c0", "c1"))
    assert (gemm.operator, gemm.count, gemm.nodes) == ("Gemm", 5, ("g0", "g1", "g2", "g3", "g4"))


def test_it_is_told_in_words() -> None:
    """Precisions with operators and kernels, each stray with what was asked, copies, the source."""
    first, *told = placement.lines(MIXED)
    assert first == placement.line(MIXED)
    assert first == (
        "40 nodes: 95% GPU, 5% CPU, 37 int8, 2 unknown, 1 float32, 3 not as planned, "
        "3 copies a call"
    )
    assert told == [
        "int8: Conv 36 by CUDAExecutionProvider, Reorder 1 by CUDAExecutionProvider",
        "unknown: NonZero 2 by CPUExecutionProvider",
        "float32: Gemm 1 by CUDAExecutionProvider",
        "not as planned: Gemm 1, asked GPU int8, runs GPU float32 (g)",
        "not as planned: NonZero 2, asked GPU, runs CPU (n0, n1)",
        "copied at each call: 2 from GPU to CPU, for NonZero",
        "copied at each call: 1 from CPU to GPU, for NonZero",
        "read from: a made-up runtime",
    ]


def test_it_survives_the_manifest(tmp_path: Path) -> None:
    """A candidate comes back with its placement; one written before there were any, with none."""
    model = Model(tmp_path / "m.onnx", "d", (), ())
    plan = Plan("x", model, tmp_path / "m.onnx", placement=MIXED)
    candidate = Candidate("c", "onnx", "fp32", "x", plan=plan)
    data = manifest.dump(candidate, tmp_path)
    assert manifest.load(Candidate, data, tmp_path) == candidate
    del data["plan"]["placement"]
    older = dataclasses.replace(candidate, plan=dataclasses.replace(plan, placement=None))
    assert manifest.load(Candidate, data, tmp_path) == older
