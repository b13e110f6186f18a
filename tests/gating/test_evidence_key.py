"""What belongs to one stream of evidence, what begins another, and what ends a gate half-way."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import accel
from accel import arrays, manifest, release, store, testing
from accel.cli import cli
from accel.errors import (
    AccelError,
    CandidateBroken,
    EnvironmentProblem,
    MissingExtra,
    NoBaseline,
    UsageError,
)
from accel.evidence import REFERENCE, Budget, Epoch, Report
from accel.gating import chain, history, sampler
from accel.measure import machine
from accel.steps import build
from accel.values import Model, Plan, Release

WIDE = (Budget("p50", 9.0),)


@pytest.fixture
def quick(tmp_path: Path) -> Model:
    return testing.mlp(tmp_path / "quick.onnx")


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the epochs that were asked for; a fake sampler that times nothing."""
    asked: list[int] = []

    def fake(number: int, arms: Any, *_: Any, **__: Any) -> Epoch:
        asked.append(number)
        logs = {arm: {"p50": 0.001} for arm in arms if arm != "baseline"}
        return Epoch(number, logs, {arm: {"p50": 1e-3} for arm in arms})

    monkeypatch.setattr(sampler, "epoch", fake)
    return asked


@pytest.fixture
def gate(quick: Model, tmp_path: Path, epochs: list[int]) -> Callable[..., Report]:
    def run(candidate: Any = None, baseline: Any = None, **words: Any) -> Report:
        given = {"budgets": WIDE, "work": tmp_path / "work", **words}
        return accel.gate(candidate or quick.path, baseline or quick.path, **given)

    return run


def test_another_runtime_begins_evidence_of_its_own(
    gate: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PASS of the old one does not answer for the new one, nor bear witness against it; the verdict
    names what ran."""
    first = gate(out=tmp_path / "out")
    monkeypatch.setattr(machine, "versions", lambda: {"onnxruntime": "99.0"})
    with pytest.raises(UsageError, match="other libraries"):
        gate(witnesses=[tmp_path / "out" / "verdict.json"])
    second = gate()
    assert (first.outcome, second.outcome) == ("pass", "pass")
    assert second.new_epochs == len(second.epochs) > 0
    assert first.evidence != second.evidence
    assert second.versions["onnxruntime"] == "99.0"
    assert not any("not counted" in note for note in first.notes)
    (note,) = [note for note in second.notes if "not counted" in note]
    assert note.startswith(f"{len(first.epochs)} epochs of this pair lie in {tmp_path / 'work'}")
    assert "libraries.onnxruntime" in note


def test_what_is_packed_again_goes_on(
    gate: Callable[..., Report], packed: Callable[..., Release], tmp_path: Path
) -> None:
    """The same artefacts with other measurements beside them are the same candidate."""
    old, first = packed("old").path, packed("first").path
    again = Path(shutil.copytree(first, tmp_path / "again"))
    arrays.save(again / "samples.npz", [{"other": [1.0]}])
    path = again / release.MANIFEST
    data = json.loads(path.read_text())
    data["measurements"]["samples.npz"] = store.digest_file(again / "samples.npz")
    data["digest"] = release.seal(data)
    path.write_text(manifest.text(data))
    one = gate(first, old, out=tmp_path / "out")
    other = gate(again, old, witnesses=[tmp_path / "out" / "verdict.json"])
    assert one.candidate.digest != other.candidate.digest
    assert (other.outcome, other.new_epochs) == ("pass", 0)
    assert one.evidence == other.evidence


@pytest.mark.parametrize(
    ("error", "outcome"), [(CandidateBroken("it died"), "broken"), (NoBaseline("it died"), "no baseline")]
)  # fmt: skip
def test_a_crash_keeps_what_was_measured_and_is_not_forgotten(
    gate: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, error: AccelError, outcome: str
) -> None:
    """The epochs before it stay evidence; a later run that passes tells of it."""
    real = sampler.epoch

    def crash(number: int, *rest: Any, **words: Any) -> Epoch:
        if number == 2:
            raise error
        return real(number, *rest, **words)

    monkeypatch.setattr(sampler, "epoch", crash)
    found = gate()
    assert (found.outcome, len(found.epochs)) == (outcome, 2)
    assert found.evidence is not None
    assert found.evidence_head
    assert "it died" in found.line
    monkeypatch.setattr(sampler, "epoch", real)
    later = gate()
    assert (later.outcome, later.epochs[:2]) == ("pass", found.epochs)
    assert "an earlier run crashed in epoch 3: it died" in later.notes


def test_a_full_disk_in_an_epoch_is_the_machines(
    gate: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is blamed for it, and no foreign exception comes out."""

    def full(*_: Any, **__: Any) -> Epoch:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sampler, "epoch", full)
    with pytest.raises(EnvironmentProblem, match="full"):
        gate()


@pytest.mark.parametrize("error", [EnvironmentProblem, MissingExtra])
def test_a_full_disk_or_a_missing_library_is_the_machines(
    gate: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, error: type[EnvironmentProblem]
) -> None:
    """Neither "no baseline" nor "broken": 7, as README's table of exit codes has it."""

    def refused(*_: Any, **__: Any) -> None:
        raise error("The machine refuses it.")

    monkeypatch.setattr(build, "build", refused)
    with pytest.raises(error, match="refuses it"):
        gate()


def test_a_baseline_that_is_not_there_is_an_outcome_with_files(
    gate: Callable[..., Report], tmp_path: Path
) -> None:
    """Exit 5, whatever kind of place was named, and the candidate is not built for it."""
    found = gate(baseline=tmp_path / "gone", out=tmp_path / "out")
    assert found.outcome == "no baseline"
    told = json.loads((tmp_path / "out" / "verdict.json").read_text())["data"]
    assert told["exit_code"] == 5


def test_an_earlier_verdict_is_gone_when_a_gate_ends_with_an_error(
    gate: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in --out is of this gate or of none."""
    gate(out=tmp_path / "out")
    assert (tmp_path / "out" / "verdict.json").exists()
    with pytest.raises(UsageError):
        gate(tmp_path / "none.onnx", out=tmp_path / "out")
    assert not (tmp_path / "out" / "verdict.json").exists()


def test_a_verdict_without_epochs_bears_witness_to_nothing(
    gate: Callable[..., Report], tmp_path: Path, quick: Model
) -> None:
    """The last verdict of a pipeline may be handed over, whatever it was."""
    gate(baseline=tmp_path / "gone", out=tmp_path / "out")
    verdict = tmp_path / "out" / "verdict.json"
    told = json.loads(verdict.read_text())
    held = gate()
    told["data"]["candidate"]["digest"] = held.candidate.digest
    told["data"]["baseline"]["digest"] = held.baseline.digest
    verdict.write_text(json.dumps(told))
    assert gate(witnesses=[verdict]).outcome == "pass"


def test_a_verdict_of_another_candidate_is_no_witness(
    gate: Callable[..., Report], tmp_path: Path
) -> None:
    """It is refused as what it is, and nobody is accused of altering anything."""
    gate(out=tmp_path / "out")
    other = testing.mlp(tmp_path / "other.onnx", seed=3)
    with pytest.raises(UsageError, match="another candidate"):
        gate(other.path, witnesses=[tmp_path / "out" / "verdict.json"])


def test_a_cumulative_budget_without_a_last_release_is_told(
    gate: Callable[..., Report], tmp_path: Path
) -> None:
    """From accel.toml it becomes a note; asked for by itself it is an error."""
    config = tmp_path / "accel.toml"
    config.write_text('[gate]\n"p50@reference" = "5%"\n')
    found = gate(budgets=None, config=config)
    assert "p50@reference=5% is not gated: there is no last release" in found.notes
    with pytest.raises(UsageError, match="--reference"):
        gate(budgets=(Budget("p50", 0.05, arm=REFERENCE),))


@pytest.mark.parametrize("trouble", ["a file of it is damaged", "its engine cannot be loaded"])
def test_a_last_release_that_no_budget_counts_from_ends_no_gate(
    gate: Callable[..., Report], packed: Callable[..., Release], trouble: str
) -> None:
    """It would be timed for the history alone: what keeps it from that is a note."""
    last = packed("last").path
    path = last / release.MANIFEST
    data = json.loads(path.read_text())
    if "engine" in trouble:
        data["winner"]["plan"]["engine"] = "nosuch"
        data["digest"] = release.seal(data)
        path.write_text(manifest.text(data))
    else:
        (last / "model.onnx").write_bytes(b"")
    watched = Budget("p50", 9.0, mode="watch", arm=REFERENCE)
    for budgets in (WIDE, (*WIDE, watched)):
        found = gate(reference=last, budgets=budgets)
        assert (found.outcome, found.reference) == ("pass", None)
        (note,) = [n for n in found.notes if n.startswith("the last release is not timed beside")]
        assert ("nosuch" in note) == ("engine" in trouble)


def test_a_last_release_that_a_budget_counts_from_must_be_there(
    gate: Callable[..., Report], packed: Callable[..., Release]
) -> None:
    """A damaged one is no baseline (5): the budget that was asked for is not passed over."""
    last = packed("last").path
    (last / "model.onnx").write_bytes(b"")
    found = gate(reference=last, budgets=(*WIDE, Budget("p50", 9.0, arm=REFERENCE)))
    assert found.outcome == "no baseline"
    assert "not as it was packed" in found.line


def test_requests_that_are_drawn_anew_are_told(
    gate: Callable[..., Report], quick: Model, tmp_path: Path
) -> None:
    """Each run of an unseeded workload begins evidence of its own, which nothing else shows."""
    lines = ["import numpy as np", f"def model():\n    return {str(quick.path)!r}"]
    lines += ["def requests():\n    x = np.random.default_rng().normal(size=(3, 8))"]
    lines += ["    return [('drawn', 1.0, {'x': x.astype('float32')})]"]
    source = tmp_path / "w.py"
    source.write_text("\n".join(lines))
    assert not any("not counted" in note for note in gate(workload=source).notes)
    assert any("since requests differ" in note for note in gate(workload=source).notes)


def test_paths_may_be_texts_and_texts_paths(
    gate: Callable[..., Report], quick: Model, tmp_path: Path
) -> None:
    """Whichever of the two a test has at hand."""
    feeds, config, source = (tmp_path / name for name in ("feeds.npz", "gate.toml", "w.py"))
    arrays.save(feeds, [testing.request(quick).inputs])
    config.write_text('[gate]\np50 = "900%"\n')
    source.write_text(f"def model():\n    return {str(quick.path)!r}\n")
    words = {"work": str(tmp_path / "texts"), "out": str(tmp_path / "out"), "config": str(config)}
    found = gate(str(quick.path), str(quick.path), data=feeds, **words)
    assert found.outcome == "pass"
    assert found.evidence is not None
    assert found.evidence.is_relative_to(tmp_path / "texts")
    assert (tmp_path / "out" / "verdict.json").exists()
    assert f"--data {feeds}" in found.command
    with pytest.raises(UsageError, match="inputs"):
        gate(workload=source)


def test_a_workload_may_change_the_folder(
    gate: Callable[..., Report], quick: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was named beside it is found all the same, and the line that is printed names it as given."""
    lines = ["import os", "import numpy as np", "os.chdir('/')"]
    lines += [f"class Problem:\n    def model(self):\n        return {str(quick.path)!r}"]
    lines += ["    def requests(self):\n        x = np.zeros((3, 8), 'float32')"]
    lines += ["        return [('batch', 1.0, {'x': x})]"]
    (tmp_path / "w.py").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    for variable in ("GITHUB_SHA", "CI_COMMIT_SHA"):
        monkeypatch.delenv(variable, raising=False)
    git = ("git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(tmp_path))
    for words_of_git in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "one")):
        subprocess.run([*git, *words_of_git], check=True)
    found = gate("quick.onnx", "quick.onnx", workload="w.py:Problem", reference="quick.onnx")
    assert Path.cwd() == Path("/")
    assert (found.outcome, found.baseline.path) == ("pass", quick.path)
    assert found.reference is not None
    assert len(found.commit) == 40
    words = "accel gate quick.onnx --baseline quick.onnx --reference quick.onnx --workload w.py:Problem "
    assert found.command.startswith(words)


def test_a_table_of_another_name_is_noted(gate: Callable[..., Report], tmp_path: Path) -> None:
    """A gate that was given no name has its candidate's."""
    config = tmp_path / "accel.toml"
    config.write_text('[gate.minilm]\np50 = "1%"\n')
    told = "has tables for minilm, none for 'quick': add --name"
    assert any(told in note for note in gate(budgets=None, config=config).notes)
    named = gate(budgets=None, config=config, name="minilm", work=tmp_path / "named")
    assert not any("has tables for" in note for note in named.notes)


def test_engines_that_tell_no_placement_can_pass(
    gate: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accel's own budgets on it are watched then, and one that was written is not."""
    real = build.build

    def mute(*words: Any, **named: Any) -> Plan:
        return dataclasses.replace(real(*words, **named), placement=None)

    monkeypatch.setattr(build, "build", mute)
    config = tmp_path / "accel.toml"
    config.write_text('[gate]\npeak_memory = "off"\n')
    found = gate(budgets=None, config=config)
    modes = {c.budget.metric: (c.budget.mode, c.outcome) for c in found.judgement.cells}
    assert modes["copies"] == modes["nodes_fallen"] == ("watch", "cannot tell")
    assert found.outcome == "pass"
    assert any("nodes_fallen and copies: only watched" in note for note in found.notes)
    config.write_text('[gate]\npeak_memory = "off"\ncopies = "0"\n')
    strict = gate(budgets=None, config=config)
    assert strict.outcome == "cannot tell"
    assert 'copies = "off"' in strict.line


def test_a_gate_is_called_as_its_folder_is(
    gate: Callable[..., Report], packed: Callable[..., Release]
) -> None:
    """A version's dots belong to the name of a folder."""
    assert gate(packed("minilm-1.0").path, packed("old").path).name == "minilm-1.0"


def test_words_for_a_graph_are_refused_for_releases(
    gate: Callable[..., Report], packed: Callable[..., Release]
) -> None:
    """Nothing that is asked for is passed over."""
    with pytest.raises(UsageError, match="--engine"):
        gate(packed("a").path, packed("b").path, engine="openvino")
    with pytest.raises(UsageError, match="--data"):
        gate(baseline=packed("c").path, data="feeds.npz")


def test_two_gates_do_not_run_beside_each_other(
    gate: Callable[..., Report], tmp_path: Path
) -> None:
    """Of other candidates neither: each would be timed beside the other."""
    with chain.alone(tmp_path / "work" / "gate"), pytest.raises(UsageError, match="Another gate"):
        gate()


def test_a_verdict_is_told_before_what_cannot_be_written(
    quick: Model, tmp_path: Path, epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A history whose disk is full by then is told below the verdict, whose exit code stays."""

    def full(*_: object) -> None:
        raise EnvironmentProblem("The disk is full.")

    monkeypatch.setattr(history, "append", full)
    words = ["gate", quick.path, "--baseline", quick.path, "--budget", "p50=900%", "--quiet"]
    words += ["--work", tmp_path / "work", "--history", tmp_path / history.FILE]
    found = CliRunner().invoke(cli, [str(w) for w in words])
    assert found.exit_code == 0
    assert found.stdout.startswith("PASS quick")
    assert found.stderr == "accel: The disk is full. The verdict stands.\n"


def test_a_graph_is_timed_at_the_requests_of_its_workload(
    gate: Callable[..., Report], quick: Model, tmp_path: Path
) -> None:
    """What production sends is in the workload; an .onnx by itself has none."""
    lines = ["import numpy as np", f"def model():\n    return {str(quick.path)!r}"]
    lines += ["def requests():\n    return [('batch', 1.0, {'x': np.zeros((3, 8), 'float32')})]"]
    source = tmp_path / "w.py"
    source.write_text("\n".join(lines))
    found = gate(workload=str(source))
    assert [r.group for r in found.baseline.requests] == ["batch"]
    assert [r.group for r in gate().baseline.requests] != ["batch"]
