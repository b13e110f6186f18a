"""The accuracy cells of two real graphs in ONNX Runtime: labels, no labels, NaN, other ports."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import arrays, graph, release, testing
from accel.errors import UsageError
from accel.evidence import Budget, Cell, Subject
from accel.gating import accuracy, asked
from accel.gating.asked import Asked
from accel.measure import closeness
from accel.values import Release, Request

POINTS = Budget("drop", 2.0, "pt")
FLIPS = Budget("flips", 0.02, "%")
WORKLOAD = """
import numpy as np
import onnxruntime

metric_name = "top-1"

def model():
    return {model!r}

def inputs():
    return {{"x": np.zeros((2, 8), "float32")}}

def _data(n, seed):
    return np.random.default_rng(seed).normal(size=(n, 8)).astype("float32")

def _labels(x):
    session = onnxruntime.InferenceSession({model!r}, providers=["CPUExecutionProvider"])
    return session.run(None, {{"x": x}})[0].argmax(1)

def samples(split):
    x = _data({counts!r}[split], len(split))
    return [({{"x": a[None]}}, int(b)) for a, b in zip(x, _labels(x))]

def row(outputs, label):
    return outputs["logits"].argmax() == label

def metric(rows):
    return 100 * rows.mean()
"""
CLUSTERS = """
def clusters(split):
    return [i // 4 for i in range({counts!r}[split])]
"""
UNLABELLED = """
import numpy as np

def model():
    return {model!r}

def requests():
    x = np.random.default_rng(1).normal(size=(400, 8)).astype("float32")
    return [("all", 1.0, {{"x": x}})]
"""


def subject(path: Path, noise: float = 0.0, nan: bool = False, output: str = "logits") -> Subject:
    """An MLP whose weights are off by `noise`; with `nan` one of them is none."""
    testing.mlp(path)
    proto = onnx.load(path)
    draw = np.random.default_rng(7)  # not the weights' own seed: that would only scale them
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        values += noise * draw.normal(size=values.shape).astype(np.float32)
        if nan:
            values[0, 0] = np.nan
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = output
    onnx.save(proto, path)
    return taken(path)


def detector(path: Path, least: float, scale: float = 1.0) -> Subject:
    """Its boxes are the places where x is above `least`: the data says how many."""
    nodes = [
        helper.make_node("Greater", ["x", "least"], ["above"]),
        helper.make_node("NonZero", ["above"], ["found"]),
        helper.make_node("Transpose", ["found"], ["places"], perm=[1, 0]),
        helper.make_node("Cast", ["places"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["whole", "scale"], ["boxes"]),
    ]
    taken_in = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])
    given = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["count", 2])
    weights = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("least", least), ("scale", scale))
    ]
    proto = helper.make_graph(nodes, "detector", [taken_in], [given], weights)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(proto, opset_imports=opsets, ir_version=8), path)
    return taken(path)


def taken(path: Path) -> Subject:
    """The graph in a file, timed at two batches."""
    model = graph.describe(path)
    asked = tuple(
        dataclasses.replace(testing.request(model, batch=n), group=f"b{n}") for n in (1, 5)
    )
    return Subject(path.stem, path, model.digest, testing.plan(model), asked, path.stat().st_size)


DETECTOR = """
import numpy as np

def model():
    return {model!r}

def inputs():
    return {{"x": np.zeros((1, 8), "float32")}}

def samples(split):
    x = np.random.default_rng(len(split)).normal(size=(600, 1, 8)).astype("float32")
    return [({{"x": a}}, int((a > 0.5).sum())) for a in x]

def row(outputs, label):
    return len(outputs["boxes"]) == label

def metric(rows):
    return 100 * rows.mean()
"""


@pytest.fixture
def baseline(tmp_path: Path) -> Subject:
    """The one whose own answers are the labels."""
    return subject(tmp_path / "baseline.onnx")


def workload(folder: Path, baseline: Subject, text: str = WORKLOAD, **counts: int) -> str:
    """A workload file over the baseline's graph."""
    path = folder / "workload.py"
    counts = counts or {"search": 50, "certify": 600}
    path.write_text(text.format(model=str(baseline.path), counts=counts))
    return str(path)


def judged(
    candidate: Subject,
    baseline: Subject,
    source: str | None,
    out: Path,
    budgets: Sequence[Budget] = (POINTS, FLIPS),
    said: list[str] | None = None,
) -> tuple[Cell, ...]:
    progress = None if said is None else said.append
    return accuracy.cells(candidate, baseline, budgets, source, out, progress)


def test_the_same_graph_passes(tmp_path: Path, baseline: Subject) -> None:
    """Under another name: no answer lost, no flip, and the outputs are the same bit for bit."""
    same = subject(tmp_path / "same.onnx")
    drop, flips = judged(same, baseline, workload(tmp_path, baseline), tmp_path / "out")
    assert (drop.outcome, drop.value, drop.baseline) == ("pass", 100.0, 100.0)
    assert (drop.epochs, drop.worse, drop.better) == (600, 0, 0)
    assert (flips.outcome, flips.worse, flips.epochs) == ("pass", 0, 600)
    assert "bit for bit" in flips.reason


def test_a_worse_graph_fails_and_its_rows_are_kept(tmp_path: Path, baseline: Subject) -> None:
    """Every lost answer is a flip here; the rows on disk give the drop again."""
    worse = subject(tmp_path / "worse.onnx", noise=0.2)
    drop, flips = judged(worse, baseline, workload(tmp_path, baseline), tmp_path / "out")
    assert (drop.outcome, flips.outcome) == ("fail", "fail")
    assert drop.worse == flips.worse > 30
    assert "certify split" in drop.reason
    (rows,) = arrays.load(accuracy.rows_file(worse, baseline, tmp_path / "out"))
    found = 100 * (rows["baseline"].mean() - rows["candidate"].mean())
    assert drop.ratio == pytest.approx(found)
    assert "SQNR" in flips.reason


def test_answers_are_run_once(tmp_path: Path, baseline: Subject) -> None:
    """A second run reads both subjects' steps and says the same; another candidate is run."""
    source, said = workload(tmp_path, baseline), list[str]()
    worse = subject(tmp_path / "worse.onnx", noise=0.2)
    first = judged(worse, baseline, source, tmp_path / "out", said=said)
    assert sum("600 samples" in line for line in said) == 2
    said.clear()
    assert judged(worse, baseline, source, tmp_path / "out", said=said) == first
    assert not any("accuracy:" in line for line in said)
    other = subject(tmp_path / "other.onnx", noise=0.1)
    judged(other, baseline, source, tmp_path / "out", said=said)
    assert [line.split()[-1] for line in said if "accuracy:" in line] == ["other"]


def test_too_few_samples_are_told_before_anything_runs(tmp_path: Path, baseline: Subject) -> None:
    """For the drop and for the flips, in front of the first line of the run; then: cannot tell."""
    source, said = workload(tmp_path, baseline, search=9, certify=40), list[str]()
    cells = judged(baseline, baseline, source, tmp_path / "out", said=said)
    assert [cell.outcome for cell in cells] == ["cannot tell", "cannot tell"]
    assert "40 samples cannot prove a drop of at most 2 pt" in said[0]
    assert "flip rate of at most 2 %" in said[1]
    assert said[2].startswith("accuracy:")
    assert "140 equal answers would do" in cells[0].reason


def test_without_a_certify_split_the_search_split_serves(tmp_path: Path, baseline: Subject) -> None:
    """And the reason says so."""
    source = workload(tmp_path, baseline, search=300, certify=0)
    drop, _ = judged(baseline, baseline, source, tmp_path / "out")
    assert (drop.outcome, drop.epochs) == ("pass", 300)
    assert "search split (there is no certify split)" in drop.reason


@pytest.mark.parametrize(
    "budgets", [(POINTS, FLIPS), (), (dataclasses.replace(POINTS, mode="watch"),)]
)
def test_nan_breaks_the_candidate(
    tmp_path: Path, baseline: Subject, budgets: tuple[Budget, ...]
) -> None:
    """With the output's name, without labels, and where no budget gates accuracy as well."""
    broken = subject(tmp_path / "broken.onnx", nan=True)
    cells = judged(broken, baseline, None, tmp_path / "out", budgets)
    assert {cell.outcome for cell in cells} == {"broken"}
    assert any(cell.budget.mode == "gate" for cell in cells)
    assert "output logits" in cells[0].reason


def test_nan_of_the_baseline_is_not_the_candidates(tmp_path: Path) -> None:
    """A baseline that gives only NaN cannot be compared with."""
    broken = subject(tmp_path / "broken.onnx", nan=True)
    cells = judged(subject(tmp_path / "good.onnx"), broken, None, tmp_path / "out")
    assert {cell.outcome for cell in cells} == {"no baseline"}


@pytest.mark.parametrize("there", [np.nan, -np.inf, np.inf])
def test_a_number_where_the_baseline_has_none_is_not_the_same(there: float) -> None:
    """Such places are counted, and nothing is said to be equal bit for bit; the same NaN is equal."""
    base, other = ([{"y": np.array([1.0, 2.0, x], np.float32)}] for x in (there, 7.0))
    found = closeness.told(closeness.compare(base, other).outputs)
    assert found.startswith('output "y": 1 values are NaN or Inf in the baseline, and others here')
    assert "bit for bit" not in found
    assert "bit for bit" in closeness.told(closeness.compare(base, base).outputs)


def test_an_index_is_no_signal() -> None:
    """Another class is one wrong answer and nothing gross, however far the numbers lie apart; as closeness
    it counts by how many are the same."""
    base, other = ([{"label": np.array([x, 5])}] for x in (0, 7))
    assert not closeness.compare(base, other).gross
    assert closeness.cosines(base, other) == [0.5]
    floats = [{"label": feed["label"].astype(np.float32)} for feed in other]
    assert not closeness.compare(base, floats).gross


def test_an_output_of_zeros_has_no_direction() -> None:
    """A feed in which the reference says nothing is judged by the error beside the others' signal."""
    base = [{"y": np.ones(4, np.float32)}, {"y": np.zeros(4, np.float32)}]
    other = [{"y": np.ones(4, np.float32)}, {"y": np.full(4, 1e-6, np.float32)}]
    assert not closeness.compare(base, other).gross
    assert closeness.compare(base, [base[0], {"y": np.full(4, 9.0, np.float32)}]).gross
    assert closeness.compare(base, [base[1], base[1]]).gross


def test_a_candidate_that_does_not_load_is_broken(tmp_path: Path, baseline: Subject) -> None:
    """And a baseline that does not is none."""
    wreck = subject(tmp_path / "wreck.onnx", noise=0.1)
    wreck.path.write_bytes(b"no model")
    assert judged(wreck, baseline, None, tmp_path / "a")[0].outcome == "broken"
    assert judged(baseline, wreck, None, tmp_path / "b")[0].outcome == "no baseline"
    unread = dataclasses.replace(baseline, plan=None, trouble="a file differs")
    for pair, outcome in (((unread, baseline), "broken"), ((baseline, unread), "no baseline")):
        (cell, *_) = judged(*pair, None, tmp_path / "c")
        assert (cell.outcome, "a file differs" in cell.reason) == (outcome, True)


def test_without_a_workload_a_drop_cannot_be_told(tmp_path: Path, baseline: Subject) -> None:
    """It says what to add; flips are counted on the requests that there are."""
    drop, flips = judged(baseline, baseline, None, tmp_path / "out")
    assert (drop.outcome, "--workload" in drop.reason) == ("cannot tell", True)
    assert (flips.epochs, flips.worse) == (6, 0)


def test_without_labels_a_change_counts_as_a_loss(tmp_path: Path, baseline: Subject) -> None:
    """Agreement with the baseline stands in, on the workload's own requests, and is said to."""
    source = workload(tmp_path, baseline, UNLABELLED)
    worse = subject(tmp_path / "worse.onnx", noise=0.2)
    drop, flips = judged(worse, baseline, source, tmp_path / "out")
    assert (drop.outcome, drop.worse, drop.epochs) == ("fail", flips.worse, 400)
    assert "agreement with the baseline" in drop.reason
    assert "there are no labels" in drop.reason


def test_without_a_budget_it_is_watched(tmp_path: Path, baseline: Subject) -> None:
    """One cell that decides nothing and tells how far the outputs are apart."""
    near = subject(tmp_path / "near.onnx", noise=0.001)
    (cell,) = judged(near, baseline, None, tmp_path / "out", ())
    assert (cell.budget.mode, cell.outcome) == ("watch", "pass")
    assert "SQNR" in cell.reason


def test_flips_of_clusters_cannot_be_told(tmp_path: Path, baseline: Subject) -> None:
    """600 samples of 150 clusters are no 600 independent ones: the share is told, without limits,
    and where flips are only watched it decides nothing."""
    source, said = workload(tmp_path, baseline, WORKLOAD + CLUSTERS), list[str]()
    (held,) = judged(baseline, baseline, source, tmp_path / "out", (FLIPS,), said)
    assert (held.outcome, held.ratio, held.low, held.high) == ("cannot tell", 0.0, None, None)
    assert held.reason.startswith("0 of 600 samples changed their first class: 0.00 %; ")
    assert "come in clusters" in held.reason
    assert said[0].startswith("flips cannot be told: the samples come in clusters")
    (watched,) = judged(baseline, baseline, source, tmp_path / "out", ())
    assert (watched.outcome, watched.budget.mode, watched.worse) == ("pass", "watch", 0)


def test_outputs_without_classes_have_no_flips(tmp_path: Path) -> None:
    """Cannot tell, with the reason, where such a budget gates."""
    one = subject(tmp_path / "one.onnx", output="pooled")
    _, flips = judged(one, one, None, tmp_path / "out")
    assert (flips.outcome, "pooled" in flips.reason) == ("cannot tell", True)


@pytest.mark.parametrize("which", ["outputs", "inputs", "shapes"])
def test_other_ports_are_a_usage_error(tmp_path: Path, baseline: Subject, which: str) -> None:
    """Both are named."""
    other: Any = subject(
        tmp_path / "other.onnx", output="scores" if which == "outputs" else "logits"
    )
    if which == "inputs":
        ports = (dataclasses.replace(other.plan.model.inputs[0], name="image"),)
        model = dataclasses.replace(other.plan.model, inputs=ports)
        other = dataclasses.replace(other, plan=dataclasses.replace(other.plan, model=model))
    if which == "shapes":
        model = testing.mlp(tmp_path / "other.onnx", classes=7)
        proto = onnx.load(tmp_path / "other.onnx")
        proto.graph.node[-1].output[0] = proto.graph.output[0].name = "logits"
        onnx.save(proto, tmp_path / "other.onnx")
        other = dataclasses.replace(other, digest=model.digest)
    named = {"outputs": "scores against logits", "inputs": "image", "shapes": r"\(1, 7\)"}[which]
    with pytest.raises(UsageError, match=named):
        judged(other, baseline, None, tmp_path / "out")


def test_a_watched_score_that_is_none_breaks_the_gate(tmp_path: Path, baseline: Subject) -> None:
    """A wreck never passes: the cell gates, whatever its budget asked for."""
    text = WORKLOAD.replace(
        "return 100 * rows.mean()", "return 100.0 if rows.all() else float('nan')"
    )
    watched = dataclasses.replace(POINTS, mode="watch")
    worse = subject(tmp_path / "worse.onnx", noise=0.5)
    found = judged(worse, baseline, workload(tmp_path, baseline, text), tmp_path / "out", [watched])
    assert ("broken", "gate") in {(cell.outcome, cell.budget.mode) for cell in found}


def test_a_large_budget_and_a_large_batch_are_told_nothing_untrue(baseline: Subject) -> None:
    """120 pt of a metric without bounds is a budget; a batch of 400 has 400 items to flip."""
    feed = {"x": np.zeros((400, 8), np.float32)}
    asks = Asked(None, "certify", (), (feed,))
    assert accuracy.beforehand(asks, [FLIPS]) == []
    labelled = Asked(None, "certify", (((feed,), 1),), ())
    assert accuracy.beforehand(labelled, [Budget("drop", 120.0, "pt")]) == []


def test_what_was_packed_as_golden_too_counts_once(tmp_path: Path, baseline: Subject) -> None:
    """The same feed twice is one sample."""
    twice = dataclasses.replace(baseline, requests=(*baseline.requests, baseline.requests[0]))
    assert len(asked.gather(twice, twice, None).units) == len(baseline.requests)


def test_a_releases_requests_and_golden_inputs_are_asked(
    tmp_path: Path, packed: Callable[..., Release]
) -> None:
    """One request and two golden inputs, and a release agrees with itself on them."""
    root = packed().path
    made = Subject("release", root, "d", release.intact(root), release.requests(root), 1)
    said: list[str] = []
    (cell,) = judged(made, made, None, tmp_path / "out", (), said)
    assert said == ["accuracy: 3 samples (requests, without labels) in release"]
    assert "bit for bit" in cell.reason


@pytest.mark.parametrize("as_workload", [False, True])
def test_random_numbers_prove_nothing(tmp_path: Path, baseline: Subject, as_workload: bool) -> None:
    """What accel draws for a graph without data: neither a drop nor flips, but NaN all the same."""
    asked = tuple(dataclasses.replace(r, group="random") for r in baseline.requests)
    drawn = dataclasses.replace(baseline, requests=asked)
    source = str(baseline.path) if as_workload else None
    drop, flips = judged(drawn, drawn, source, tmp_path / "out")
    assert (drop.outcome, flips.outcome) == ("cannot tell", "cannot tell")
    assert "random numbers" in flips.reason
    broken = subject(tmp_path / "broken.onnx", nan=True)
    assert judged(broken, drawn, source, tmp_path / "out")[0].outcome == "broken"


def test_nothing_to_run_is_a_usage_error(tmp_path: Path, baseline: Subject) -> None:
    """No samples, no requests, no golden inputs: nothing never passes."""
    bare = dataclasses.replace(baseline, requests=())
    with pytest.raises(UsageError, match="nothing to run"):
        judged(bare, bare, None, tmp_path / "out")


def test_a_request_that_one_refuses_names_it(tmp_path: Path, baseline: Subject) -> None:
    """The subject's name stands before what is wrong with the feed."""
    wrong = Request("all", 1.0, {"x": np.zeros((1, 3), np.float32)})
    odd = dataclasses.replace(baseline, requests=(wrong,))
    with pytest.raises(UsageError, match=r"^baseline: "):
        judged(odd, odd, None, tmp_path / "out")


@pytest.mark.parametrize(("least", "outcome"), [(0.5, "pass"), (0.7, "fail")])
def test_a_detector_is_judged_by_its_own_metric(tmp_path: Path, least: float, outcome: str) -> None:
    """How many boxes it finds is its answer, and no error of whoever compares."""
    base, ours = detector(tmp_path / "base.onnx", 0.5), detector(tmp_path / "ours.onnx", least)
    source = workload(tmp_path, base, DETECTOR)
    (drop,) = judged(ours, base, source, tmp_path / "out", (POINTS,))
    assert drop.outcome == outcome
    assert ('output "boxes" differs in shape' in drop.reason) == (outcome == "fail")


def test_without_labels_boxes_of_another_number_tell_nothing(tmp_path: Path) -> None:
    """Cells that gate cannot tell; the one that is only watched passes, and says so."""
    base, ours = detector(tmp_path / "base.onnx", 0.5), detector(tmp_path / "ours.onnx", 1.5)
    (watched,) = judged(ours, base, None, tmp_path / "out", ())
    assert (watched.outcome, watched.budget.mode) == ("pass", "watch")
    assert 'output "boxes" differs in shape' in watched.reason
    source = workload(tmp_path, base, UNLABELLED)
    drop, flips = judged(ours, base, source, tmp_path / "out")
    assert (drop.outcome, flips.outcome) == ("cannot tell", "cannot tell")
    assert drop.reason.startswith('output "boxes" differs in shape')


def test_boxes_of_another_number_may_still_be_none(tmp_path: Path) -> None:
    """NaN counts, whatever the shape."""
    base = detector(tmp_path / "base.onnx", 0.5)
    broken = detector(tmp_path / "broken.onnx", 0.7, scale=float("nan"))
    assert {c.outcome for c in judged(broken, base, None, tmp_path / "out")} == {"broken"}


def test_where_nothing_is_found_nothing_is_compared(tmp_path: Path) -> None:
    """Which is neither a missing baseline nor an agreement."""
    base = detector(tmp_path / "base.onnx", 99.0)
    (watched,) = judged(base, base, None, tmp_path / "out", ())
    assert (watched.outcome, "no values to compare" in watched.reason) == ("pass", True)
    drop, _ = judged(base, base, workload(tmp_path, base, UNLABELLED), tmp_path / "out")
    assert (drop.outcome, "no values to compare" in drop.reason) == ("cannot tell", True)


def test_a_batch_that_comes_back_short_is_refused(tmp_path: Path, baseline: Subject) -> None:
    """Its axis is open, and yet as large as the input's: one answer for five is another model."""
    path = tmp_path / "short.onnx"
    subject(path)
    proto = onnx.load(path)
    proto.graph.node[-1].output[0] = "every"
    proto.graph.node.append(helper.make_node("Gather", ["every", "first"], ["logits"], axis=0))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    onnx.save(proto, path)
    with pytest.raises(UsageError, match=r"is \(1, 4\), expected \(5, 4\)"):
        judged(taken(path), baseline, None, tmp_path / "out")
