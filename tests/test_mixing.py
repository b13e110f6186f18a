"""int8 that is over the budget is mended: what must be float32 becomes it, and little else."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from accel import (
    artefacts,
    catalog,
    graph,
    job,
    mixing,
    regions,
    search,
    stages,
    target,
    testing,
    trials,
)
from accel.constraints import Constraints
from accel.regions import Region
from accel.values import Candidate

BUDGET = 3.0  # points
WORKLOAD = """
import numpy as np
import onnxruntime

PATH = {path!r}
metric_name, metric_unit = "agreement", "pt"

def _x(seed, n):
    z = np.random.default_rng(seed).normal(size=(n, 6))
    mix = np.random.default_rng(99).normal(size=(6, 32))
    return np.tanh(z @ mix).astype("float32")

def model():
    return PATH

def inputs():
    return {{"x": _x(0, 2)}}

dynamic = {{"x": {{0: "batch"}}}}

def calibration():
    return [{{"x": _x(100 + i, 16)}} for i in range(6)]

def samples(split):
    x = _x({{"search": 1, "certify": 2}}[split], 200)
    session = onnxruntime.InferenceSession(PATH)
    labels = session.run(None, {{"x": x}})[0].argmax(1)
    return [({{"x": x[i : i + 1]}}, int(labels[i])) for i in range(len(x))]

def row(outputs, label):
    return float(next(iter(outputs.values()))[0].argmax() == label)

def metric(rows):
    return 100 * float(np.mean(rows))
"""


def network(path: Path) -> None:
    """Four products; behind the second one a few channels are 300 times larger than the others."""
    testing.mlp(path, width=32, classes=6, layers=3)
    proto = onnx.load(path)
    for name, index in (("w1", (slice(None), slice(0, 3))), ("w2", (slice(0, 3),))):
        tensor = next(t for t in proto.graph.initializer if t.name == name)
        values = numpy_helper.to_array(tensor).copy()
        values[index] *= 300.0 if name == "w1" else 1 / 300.0
        tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(proto, path)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> mixing.Bench:
    """A search that has just scored its full int8, in ONNX Runtime."""
    folder = tmp_path_factory.mktemp("mix")
    network(folder / "m.onnx")
    (folder / "w.py").write_text(WORKLOAD.format(path=str(folder / "m.onnx")))
    device = target.load("cpu-local")
    made = job.prepare(str(folder / "w.py"), device, None, folder / "work")
    roots = stages.export(made, stages.quiet)
    yardstick = artefacts.yardstick(made, next(iter(roots.values())))
    baseline = trials.score(made, yardstick, "search", yardstick)
    engine = catalog.load("engines", "onnxruntime_cpu")
    options = engine.options("int8_mixed", device, made.requests, {})[0]
    planned = Candidate(
        "full", next(iter(roots)), "int8_mixed", "onnxruntime_cpu", {"ranges": "minmax"}, options
    )
    built = trials.trial(made, roots, planned, engine, yardstick)
    scored = trials.scored(made, built, baseline, yardstick)
    assert scored.drop is not None, scored.reason
    assert scored.drop > 5
    base = search.hold(scored, BUDGET)
    return mixing.Bench(
        made,
        roots,
        engine,
        base,
        baseline,
        yardstick,
        BUDGET,
        time.monotonic() + 120,
        lambda _: None,
    )


@pytest.mark.alone
def test_the_guilty_region_comes_first(bench: mixing.Bench) -> None:
    """The product that reads the uneven channels mends most of the error for its share."""
    order = mixing.ranked(bench)
    assert len(order) == 4
    node = next(
        n
        for n in graph.open_model(next(iter(bench.roots.values())).path).graph.node
        if "w2" in n.input
    )
    assert order[0].names == (node.name,)


@pytest.mark.alone
def test_what_comes_out_is_within_the_budget_and_mostly_int8(bench: mixing.Bench) -> None:
    """Scored on the whole task, with at most two of four products in float32."""
    found = [c for c in mixing.mend(bench) if c.status == "built"]
    assert found
    best = min(found, key=lambda c: len(c.recipe_options["float"]))
    assert (best.drop or 0.0) <= BUDGET
    assert 1 <= len(best.recipe_options["float"]) <= 2
    assert "float" in best.name


@pytest.mark.alone
def test_a_search_goes_on_where_it_was(bench: mixing.Bench) -> None:
    """Every trial is a stored step: again, nothing is made anew."""
    mixing.mend(bench)
    again = dataclasses.replace(
        bench, job=dataclasses.replace(bench.job, ledger=job.Ledger()), scored=[]
    )
    mixing.mend(again)
    assert all(again.job.ledger.reused.values())


@pytest.mark.alone
def test_no_time_is_no_search(bench: mixing.Bench) -> None:
    """The deadline is kept, and said."""
    told: list[str] = []
    late = dataclasses.replace(bench, deadline=time.monotonic() - 1, tell=told.append, scored=[])
    assert mixing.mend(late) == ()
    assert told


def row(
    name: str,
    status: Any,
    screen_s: float | None,
    drop: float | None,
    engine: str = "e",
    **more: Any,
) -> Candidate:
    base = Candidate(name, "r", "int8_mixed", engine, status=status, screen_s=screen_s, drop=drop)
    return dataclasses.replace(base, **more)


def test_only_what_is_quick_and_over_the_budget_is_worth_mending(bench: mixing.Bench) -> None:
    """The least drop of each engine; nothing slower than what is within the budget already."""
    kept = {"score": bench.base.score, "plan": bench.base.plan}
    table = [
        row("good", "built", 2.0, 0.1, **kept),
        row("quick, bad", "refused", 1.0, 9.0, **kept),
        row("quick, less bad", "refused", 1.1, 3.0, **kept),
        row("slow, bad", "refused", 3.0, 2.0, engine="f", **kept),
        row("never built", "refused", 0.5, None),
        row("far off", "refused", None, None, plan=bench.base.plan),
        row("another recipe", "refused", 0.5, 2.0, recipe="int8_static", **kept),
    ]
    assert [c.name for c in mixing.worth_mending(table, Constraints())] == ["quick, less bad"]
    assert [c.name for c in mixing.worth_mending(table[1:], Constraints())] == [
        "quick, less bad",
        "slow, bad",
    ]


def test_regions_share_the_work(tmp_path: Path) -> None:
    """By the sizes that calibration saw; neighbours are grouped where there is little time."""
    from accel.calibration.collect import collect

    model = testing.convnet(tmp_path / "m.onnx")
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype("float32")}
    found = regions.regions(graph.open_model(model.path), collect(model.path, [feed]).sketches)
    assert len(found) == 3
    assert sum(r.share for r in found) == pytest.approx(1)
    assert found[1].share > found[0].share > found[2].share
    (one, two) = regions.grouped(found, 2)
    assert one == Region(found[0].names + found[1].names, found[0].share + found[1].share)
    assert two == found[2]
