"""accel gate on real models: each outcome has its exit code, its files, and evidence that goes on."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import accel
from accel import testing
from accel.cli import cli
from accel.errors import UsageError
from accel.evidence import EXIT_CODES, REFERENCE, Budget, Report
from accel.gating import chain, timed, writing
from accel.values import Model, Release

pytestmark = pytest.mark.alone
QUICK = {"rounds": 3, "block_s": 0.004, "warmup_calls": 2, "shadow_every": 3}
WIDE = (Budget("p50", 9.0),)  # ten times as slow is still within it


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return testing.mlp(tmp_path_factory.mktemp("quick") / "quick.onnx")


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The same ports, forty times the work."""
    return testing.mlp(tmp_path_factory.mktemp("slow") / "slow.onnx", layers=80)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evidence that the tests of this file share: what one measured, the next goes on from."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """QUICK as an accel.toml, for the command line."""
    path = tmp_path_factory.mktemp("config") / "accel.toml"
    lines = [f"{k} = {v}" for k, v in QUICK.items()]
    path.write_text("\n".join(["[gate.rules]", *lines]))
    return path


@pytest.fixture
def gate(quick: Model, work: Path) -> Callable[..., Report]:
    """A gate against the quick model."""

    def run(candidate: str | Path, **words: object) -> Report:
        given = {"budgets": WIDE, "rules": QUICK, "work": work, **words}
        return accel.gate(candidate, given.pop("baseline", quick.path), **given)

    return run


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(w) for w in words])


def test_the_same_artefact_passes(gate: Callable[..., Report], quick: Model) -> None:
    """Eight epochs within a wide budget are enough, and the report knows it is A/A."""
    found = gate(quick.path)
    assert found.outcome == "pass"
    assert len(found.epochs) == timed.LEAST
    assert any("A/A" in note for note in found.notes)
    assert found.line.startswith("PASS quick p50")


def test_a_large_regression_fails_and_stays_failed(
    gate: Callable[..., Report], slow: Model, tmp_path: Path
) -> None:
    """A re-run adds nothing to evidence that is decisive: green is not to be had by trying."""
    budgets = (Budget("p50", 0.05),)
    first = gate(slow.path, budgets=budgets, out=tmp_path / "out")
    assert first.outcome == "fail"
    again = gate(slow.path, budgets=budgets)
    assert (again.outcome, again.new_epochs) == ("fail", 0)
    assert again.evidence_head == first.evidence_head
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(writing.FILES)
    told = json.loads((tmp_path / "out" / "verdict.json").read_text())["data"]
    assert (told["outcome"], told["exit_code"]) == ("fail", 1)


def test_a_rerun_goes_on_and_alteration_is_found_out(
    gate: Callable[..., Report], quick: Model, tmp_path: Path
) -> None:
    """Two runs of two epochs are one of four, on one chain; with one dropped there is no verdict."""
    two = {"rules": {**QUICK, "max_epochs": 2}, "work": tmp_path}
    first = gate(quick.path, **two)
    assert first.outcome == "cannot tell"
    second = gate(quick.path, **two)
    assert [e.number for e in second.epochs] == list(range(4))
    assert second.epochs[:2] == first.epochs
    assert second.new_epochs == 2
    assert second.evidence is not None
    file = second.evidence / chain.FILE
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(UsageError, match="altered"):
        gate(quick.path, **two)


def test_what_exists_but_does_not_run_is_broken_or_no_baseline(
    gate: Callable[..., Report], quick: Model, tmp_path: Path, packed: Callable[..., Release]
) -> None:
    """A spoilt release is the candidate's fault as a candidate, and nobody's as a baseline."""
    good = packed("good").path
    bad = Path(shutil.copytree(good, tmp_path / "bad"))
    with (bad / "model.onnx").open("ab") as stream:
        stream.write(b"more")
    broken = gate(bad, baseline=good)
    assert broken.outcome == "broken"
    assert "model.onnx" in broken.line
    assert gate(good, baseline=bad).outcome == "no baseline"


def test_releases_are_gated_with_the_requests_that_they_hold(
    gate: Callable[..., Report], packed: Callable[..., Release]
) -> None:
    """A release is all it takes: what latency was measured at comes with it."""
    found = gate(packed("one").path, baseline=packed("two").path)
    assert found.outcome == "pass"
    assert [r.group for r in found.baseline.requests] == ["only"]


def test_a_last_release_that_refuses_the_requests_ends_what_counts_from_it_alone(
    gate: Callable[..., Report], quick: Model, packed: Callable[..., Release]
) -> None:
    """One of other inputs is noted and left out, until a budget counts from it: no baseline."""
    last = packed("last").path
    found = gate(quick.path, reference=last)
    assert (found.outcome, found.reference) == ("pass", None)
    assert any(note.startswith("the last release is not timed beside") for note in found.notes)
    counted = gate(quick.path, reference=last, budgets=(*WIDE, Budget("p50", 9.0, arm=REFERENCE)))
    assert counted.outcome == "no baseline"


def test_a_budget_that_nothing_answers_never_passes(
    gate: Callable[..., Report], quick: Model
) -> None:
    """A gated group that no request has is "cannot tell", and says what there is."""
    found = gate(quick.path, budgets=(*WIDE, Budget("p50", 0.1, group="no such")))
    assert found.outcome == "cannot tell"


def test_each_outcome_has_its_exit_code(
    quick: Model, slow: Model, work: Path, config: Path, tmp_path: Path
) -> None:
    """Pass 0, fail 1, bad input 2, cannot tell 3 (or 0 where asked), no baseline 5."""
    base = ["--baseline", quick.path, "--config", config, "--work"]
    wide = [*base, work, "--budget", "p50=900%"]
    assert invoke("gate", quick.path, *wide).exit_code == EXIT_CODES["pass"]
    assert invoke("gate", slow.path, *base, work, "--budget", "p50=5%").exit_code == 1
    unsure = ["gate", quick.path, *base, tmp_path, "--budget", "p50=900%", "--epochs", 1]
    assert invoke(*unsure).exit_code == 3
    assert invoke(*unsure, "--on-inconclusive", "warn").exit_code == 0
    missing = invoke("gate", quick.path, "--baseline", tmp_path / "accel.baselines.json")
    assert missing.exit_code == 5
    assert "accel bless" in missing.output
    nothing = invoke("gate", tmp_path / "none.onnx", *base, work)
    assert isinstance(nothing.exception, UsageError)


def test_the_json_document_is_the_verdict(
    quick: Model, work: Path, config: Path, tmp_path: Path
) -> None:
    """--json prints on stdout just what verdict.json holds; people read stderr."""
    words = ["gate", quick.path, "--baseline", quick.path, "--budget", "p50=900%", "--json"]
    words += ["--work", work, "--config", config, "--out", tmp_path / "out", "--quiet"]
    found = invoke(*words)
    assert found.exit_code == 0
    assert json.loads(found.stdout) == json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert found.stderr.startswith("PASS quick")


def test_an_earlier_verdict_is_held_against_the_evidence(
    quick: Model, work: Path, config: Path, tmp_path: Path
) -> None:
    """With the evidence gone, a verdict that stood on it shows that epochs are missing."""
    words = ["gate", quick.path, "--baseline", quick.path, "--budget", "p50=900%", "--quiet"]
    words += ["--config", config, "--out", tmp_path / "out", "--work"]
    assert invoke(*words, work).exit_code == 0
    witness = ["--witness", tmp_path / "out" / "verdict.json"]
    assert invoke(*words, work, *witness).exit_code == 0
    fresh = invoke(*words, tmp_path / "elsewhere", *witness)
    assert isinstance(fresh.exception, UsageError)
    assert "altered" in str(fresh.exception)


def test_the_command_that_is_printed_goes_on_from_the_same_evidence(
    gate: Callable[..., Report], quick: Model, work: Path, config: Path
) -> None:
    """Run as it stands, it finds the epochs that are there and adds none."""
    found = gate(quick.path, rules={}, config=config)
    words = shlex.split(found.command)
    assert words[0] == "accel"
    again = invoke(*words[1:], "--json", "--quiet")
    assert again.exit_code == 0
    told = json.loads(again.stdout)["data"]
    assert (told["new_epochs"], told["evidence"]["head"]) == (0, found.evidence_head)


@pytest.mark.parametrize("budgets", [{"p50": "3%", "copies": "0"}, ["p50=3%", "copies=0"]])
def test_budgets_may_be_text_and_the_command_tells_them(budgets: object, tmp_path: Path) -> None:
    """What the fixture takes, the function takes; a line that is none is refused."""
    found = accel.gate("net.onnx", tmp_path / "absent", budgets=budgets, work=tmp_path)
    assert found.outcome == "no baseline"
    assert "--budget p50=3% --budget copies=0" in found.command
    with pytest.raises(UsageError, match="unit is missing"):
        accel.gate("net.onnx", tmp_path / "absent", budgets="p50=3", work=tmp_path)
