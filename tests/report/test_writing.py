"""The gate's files on disk, and what GitHub's runner is told."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from accel import catalog
from accel.errors import EnvironmentProblem, UsageError
from accel.gating import writing
from accel.report import gate_summary


def test_every_file_is_written_and_an_old_one_replaced(any_report, make, tmp_path) -> None:
    """Five files, nothing else, whole: no temporary name stays."""
    folder = tmp_path / "new" / "out"
    writing.write(make("pass"), folder)
    paths = writing.write(any_report, folder)
    assert {p.name for p in paths} == set(writing.FILES) == {p.name for p in folder.iterdir()}
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["data"]["outcome"] == any_report.outcome


def test_writers_are_found_by_name() -> None:
    """Each is a member of the report family."""
    assert set(writing.FILES.values()) <= set(catalog.names("report"))


def test_a_file_where_the_folder_should_be_is_told(make, tmp_path) -> None:
    """The error names the place; nothing is half-written."""
    place = tmp_path / "out"
    place.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="out"):
        writing.write(make(), place)
    assert place.read_text(encoding="utf-8") == "mine"


def test_a_full_disk_is_told_and_leaves_the_old_files(make, tmp_path) -> None:
    """What stands on the disk is whole: the earlier gate's or this one's."""
    writing.write(make("pass"), tmp_path)
    code = (
        "import pickle, resource, sys; from pathlib import Path; from accel.gating import writing\n"
        "report = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "from accel.errors import EnvironmentProblem\n"
        "try:\n    writing.write(report, Path(sys.argv[2]))\n"
        "except EnvironmentProblem as error:\n    print(error); sys.exit(7)\n"
    )
    kept = tmp_path.parent / f"{tmp_path.name}.pickle"
    kept.write_bytes(pickle.dumps(make("fail")))
    command = [sys.executable, "-c", code, str(kept), str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 7, found.stderr
    assert "full" in found.stdout
    verdict = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    assert verdict["data"]["outcome"] == "pass"
    assert {p.name for p in tmp_path.iterdir()} == set(writing.FILES)


def test_a_runner_gets_summary_outputs_and_annotations(make, tmp_path) -> None:
    """Both files are appended to; the lines to print come back."""
    summary, output = tmp_path / "summary", tmp_path / "output"
    summary.write_text("# before", encoding="utf-8")
    environ = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_OUTPUT": str(output),
    }
    found = writing.publish(make("cannot tell"), environ)
    assert [line.partition(" ")[0] for line in found] == ["::warning"]
    assert summary.read_text(encoding="utf-8").startswith("# before\n\n## CANNOT TELL minilm")
    outputs = dict(x.split("=", 1) for x in output.read_text(encoding="utf-8").splitlines())
    assert outputs["outcome"] == outputs["verdict"] == "cannot tell"
    assert outputs["exit-code"] == "3"
    assert outputs["line"].startswith("CANNOT TELL minilm p50: 5.2 % slower")


def test_elsewhere_nothing_is_published(make) -> None:
    """No runner, no lines and no files."""
    assert writing.publish(make(), {}) == []


def test_no_name_can_set_an_output(hostile, tmp_path) -> None:
    """One line an output, whatever the gate is called."""
    output = tmp_path / "output"
    writing.publish(hostile, {"GITHUB_OUTPUT": str(output)})
    names = [line.partition("=")[0] for line in output.read_text(encoding="utf-8").split("\n")]
    assert names == ["outcome", "verdict", "exit-code", "line", ""]


def test_all_gates_of_a_step_together_stay_within_the_limit(many, tmp_path) -> None:
    """What is there already counts: GitHub drops the whole above 1 MiB."""
    path = tmp_path / "summary"
    path.write_text("x" * (gate_summary.LIMIT_BYTES - 3000), encoding="utf-8")
    for _ in range(5):
        writing.publish(many, {"GITHUB_STEP_SUMMARY": str(path)})
    assert path.stat().st_size <= gate_summary.LIMIT_BYTES + 10
    assert "lines were left out here" in path.read_text(encoding="utf-8")


def test_a_runner_file_that_cannot_be_written_is_told(make, tmp_path) -> None:
    """The error is accel's own and names the place."""
    with pytest.raises((EnvironmentProblem, UsageError), match="gone"):
        writing.publish(make(), {"GITHUB_OUTPUT": str(tmp_path / "gone" / "output")})
    assert not Path(tmp_path / "gone").exists()


def test_outputs_are_kept_where_the_summary_cannot_be_written(make, tmp_path) -> None:
    """Later steps go by them."""
    output = tmp_path / "output"
    environ = {
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "gone" / "summary"),
    }
    with pytest.raises((EnvironmentProblem, UsageError), match="gone"):
        writing.publish(make(), environ)
    assert output.read_text(encoding="utf-8").startswith("outcome=")
