"""Every engine that runs here tells where its nodes run, and in which precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accel import manifest, placement
from accel.values import Options, Placement, Plan

SILENT = {"torch_eager", "torch_inductor"}  # PyTorch tells of no plan which operators it runs


def test_a_plan_tells_where_its_nodes_run(
    engine: Any, case: Any, built: Callable[[Any, Options], Plan]
) -> None:
    """Every node on the device that was planned, in the precision of an fp32 graph, by something
    with a name; no tensor is copied between devices."""
    for options in engine.options(case):
        found = built(case, options).placement
        if engine.name in SILENT:
            assert found is None
            continue
        assert found is not None
        assert found.source
        assert all(row.count > 0 and row.operator and row.by for row in found.placed)
        numbers = placement.metrics(found)
        assert numbers["nodes"] >= len(found.placed) > 0
        assert numbers["nodes.float32"] > 0  # a whole graph may be one fused layer
        assert numbers["nodes_fallen"] == numbers["nodes_not_as_planned"] == numbers["copies"] == 0
        assert placement.coverage(found) == {found.placed[0].planned_device: 1.0}


def test_what_it_tells_survives_the_manifest(
    engine: Any, case: Any, built: Callable[[Any, Options], Plan]
) -> None:
    """As plain JSON and back, and small: no more than 300 bytes a row."""
    for options in engine.options(case):
        found = built(case, options).placement
        if found is not None:
            assert manifest.load(Placement, manifest.dump(found)) == found
            assert len(manifest.text(found)) < 300 * (len(found.placed) + 1)
