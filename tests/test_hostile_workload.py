"""Workloads that are wrong in every way a user's file can be: one UsageError, before any step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from accel import Constraints, artefacts, job, stages, testing, workload
from accel.errors import NoBaseline, UsageError
from accel.job import Job
from accel.target import load

BASE = """
import numpy as np
X = lambda n=2: {"x": np.ones((n, 8), "f4")}
def model(): return MODEL
def inputs(): return X()
"""
LABELLED = """
def samples(split): return [(X(1), 1)] * 3
def row(outputs, label): return 1.0
def metric(rows): return rows.mean()
"""


def write(folder: Path, text: str) -> str:
    """A workload of BASE and some more, as its path."""
    path = folder / "w.py"
    model = testing.mlp(folder / "mlp.onnx").path
    path.write_text(BASE.replace("MODEL", repr(str(model))) + text)
    return str(path)


def prepare(source: str, work: Path) -> Job:
    """What a run does first."""
    return job.prepare(source, load("cpu-local"), None, work)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dynamic = [1]", r"dynamic must be a dict such as .* not \[1\]"),
        ("dynamic = {'x': 'batch'}", "dynamic must be"),
        ("dynamic = {'x': {'0': 'batch'}}", "dynamic must be"),
        ("padding = ['x']", "padding must be"),
        ("padding = {'x': 'zero'}", "padding must be"),
        (
            "dynamic = {'y': {0: 'n'}}",
            r"w\.py: dynamic names 'y', which is no input .* Inputs: x\.",
        ),
        ("padding = {'x': 0, 'y': 0}", "padding names 'y', which is no input"),
        ("noise = ('z',)", "noise names 'z', which is no input"),
        ("outputs = 'logits'", r"outputs must be a tuple .* not 'logits'"),
        ("metric_name = 3", "metric_name must be a text"),
        ("metric_unit = 'percent'", r'metric_unit must be "pt" .* not \'percent\''),
        ("higher_is_better = 'no'", "higher_is_better must be True or False"),
        ("def inputs(): raise GeneratorExit", "GeneratorExit"),
        (LABELLED + "def samples(s): return [((), 1)]", "item 0 has no inputs"),
        (LABELLED + "def samples(s): return []", r"samples\('search'\) yields nothing"),
        (LABELLED + "def samples(s): return [(X(1), np.array([[1], [1, 2]], object))]", None),
        (LABELLED + "def samples(s): return [(X(1), lambda: 0)]", "a label of samples"),
        ("def model(): return None", r"model\(\) must give .* not NoneType"),
        ("def model(): return 5", r"model\(\) must give .* not int"),
    ],
)
def test_a_wrong_workload_is_one_usage_error(tmp_path: Path, text: str, said: str | None) -> None:
    """The message says which part is wrong, what it is and what it should be."""
    source = write(tmp_path, text)
    if said is None:
        assert prepare(source, tmp_path / "work").digests["search"]
        return
    with pytest.raises(UsageError, match=said):
        prepare(source, tmp_path / "work")


def test_an_output_may_have_its_axes_named(tmp_path: Path) -> None:
    """As torch's own dynamic_axes have them: it is no misspelt input."""
    text = "outputs = ('y',)\ndynamic = {'x': {0: 'batch'}, 'y': {0: 'batch'}}"
    assert set(workload.example(workload.load(write(tmp_path, text)))) == {"x"}


def test_rows_of_more_than_two_axes_are_refused(tmp_path: Path) -> None:
    """A row is a number or a list of numbers: what the intervals resample."""
    source = write(tmp_path, LABELLED + "def row(outputs, label): return np.ones((2, 2))")
    with pytest.raises(UsageError, match=r"row\(\) must give a number .* \[2, 2\]"):
        workload.rows(workload.load(source), [[{}], [{}]], [1, 1])


def test_labels_of_any_kind_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Dicts, None and objects as labels: a rerun finds the same digest, so it reuses its steps."""
    labels = "[{'a': 1.5, 'b': None}, None, np.array(['x', None], object), 'cat', (1, [2]), {'cat', 'dog', 'bird', 'hen'}]"
    source = write(tmp_path, LABELLED + f"def samples(s): return [(X(1), y) for y in {labels}]")
    script = (
        "import sys; from accel import job; from accel.target import load\n"
        "print(job.prepare(sys.argv[1], load('cpu-local'), None, __import__('pathlib')"
        ".Path(sys.argv[2])).digests['search'])"
    )
    words = [sys.executable, "-c", script, source, str(tmp_path / "work")]
    found = {
        subprocess.run(
            words, check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": seed}
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1
    assert found != {b"None\n"}
    changed = write(tmp_path, LABELLED + "def samples(s): return [(X(1), {'a': 1.25})]")
    assert prepare(changed, tmp_path / "work").digests["search"] not in found


def test_code_that_changes_the_folder_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative workload is found again after its own import has moved elsewhere."""
    write(tmp_path, "import os\nos.chdir('/')\n")
    monkeypatch.chdir(tmp_path)
    assert workload.load("w.py").source == str(tmp_path / "w.py")
    assert Path.cwd() == Path("/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "def requests(): return [('a', 1, X()), ('b', 1, {'x': np.ones((2, 9), 'f4')})]",
            "item 1",
        ),
        ("def requests(): return [('a', 1, {'x': np.ones((2, 8))})]", "'x' is float64"),
        ("def calibration(): return [X(), {'y': np.ones(3)}]", r"item 1 of calibration\(\)"),
    ],
)
def test_what_does_not_fit_the_graph_ends_the_run(tmp_path: Path, text: str, said: str) -> None:
    """Found right after the export, with the item: not once a candidate, as its own failure."""
    run = prepare(write(tmp_path, text), tmp_path / "work")
    with pytest.raises(UsageError, match=said):
        stages.export(run, stages.quiet)


@pytest.mark.parametrize(
    ("feed", "said"),
    [("np.full((2, 8), np.inf, 'f4')", "only NaN or Inf"), ("np.ones((0, 8), 'f4')", "no values")],
)
def test_a_reference_without_a_finite_value_ends_the_run(
    tmp_path: Path, feed: str, said: str
) -> None:
    """Every candidate would agree with it: it is no baseline."""
    source = write(tmp_path, f"def inputs(): return {{'x': {feed}}}")
    run = prepare(source, tmp_path / "work")
    root = next(iter(stages.export(run, stages.quiet).values()))
    yardstick = artefacts.yardstick(run, root)
    with pytest.raises(NoBaseline, match=said):
        stages.screen(run, {"onnx": root}, Constraints(), yardstick, stages.quiet)
