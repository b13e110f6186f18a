"""The action and the job for other people's CI: read, and their scripts run, with a fake accel where
a verdict is needed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from accel import cli_gate
from accel.evidence import EXIT_CODES
from accel.gating import writing

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "actions" / "gate"
TEXT = (FOLDER / "action.yml").read_text(encoding="utf-8")
ACTION = yaml.safe_load(TEXT)
STEPS = ACTION["runs"]["steps"]
JOB = yaml.safe_load((ROOT / ".gitlab" / "accel-gate.yml").read_text(encoding="utf-8"))[
    ".accel-gate"
]
FAKE = """
import json, os, pathlib, sys
words = sys.argv[1:]
pathlib.Path("asked.json").write_text(json.dumps(words))
if "verdict" in os.environ:
    out = pathlib.Path(words[words.index("--out") + 1])
    out.mkdir(parents=True)
    (out / "verdict.json").write_text("{}")
sys.exit(int(os.environ["code"]))
"""
WORKFLOWS = {
    path.stem: path.read_text(encoding="utf-8")
    for path in (ROOT / ".github" / "workflows").glob("*.yml")
}
CANDIDATE = "re lease; touch pwned $(touch pwned) `touch pwned` ' \\"
RAN = {
    "ACCEL_CANDIDATE": CANDIDATE,
    "ACCEL_BASELINE": "b.json",
    "ACCEL_ON_INCONCLUSIVE": "warn",
    "ACCEL_FOLDER": "accel-gate/12",
}


def _using(name: str) -> dict[str, Any]:
    """The step that uses an action."""
    [found] = [step for step in STEPS if step.get("uses", "").startswith(f"actions/{name}@")]
    return found


def _files(paths: list[str]) -> set[str]:
    return {PurePosixPath(path).name for path in paths if "/out/" in path}


@pytest.fixture
def fake(tmp_path: Path) -> dict[str, str]:
    """An environment whose accel notes its words and ends as it is told; it measures nothing."""
    package = tmp_path / "path" / "accel"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FAKE)
    program = tmp_path / "path" / "accel-program" / "accel"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m accel "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"PYTHONPATH": str(package.parent), "PATH": path, "code": "0"}


def _script(
    folder: Path, verb: str, environment: Mapping[str, str]
) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """How a step's script ended, and the outputs that it gave."""
    outputs = folder / "outputs"
    outputs.write_text("")
    told = {"GITHUB_OUTPUT": str(outputs), "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "gate.py"), verb],
        cwd=folder,
        env={**os.environ, **told, **environment},
        capture_output=True,
        text=True,
    )
    lines = outputs.read_text(encoding="utf-8").splitlines()
    return done, dict(line.split("=", 1) for line in lines)


def test_every_input_is_used_and_said() -> None:
    """No input is there for nothing, none is used that is not there, and each has its help."""
    used = set(re.findall(r"\$\{\{ inputs\.([\w-]+) \}\}", TEXT))
    assert used == set(ACTION["inputs"])
    told = [*ACTION["inputs"].values(), *ACTION["outputs"].values()]
    assert all(one["description"] for one in told)


def test_no_script_holds_an_expression() -> None:
    """A value that someone else writes reaches a script by the environment, never as its text."""
    runs = [step for step in STEPS if "run" in step]
    assert len(runs) == 2
    assert not any("${{" in step["run"] for step in runs)
    script = (FOLDER / "gate.py").read_text(encoding="utf-8")
    read = set(re.findall(r'asked\("(\w+)"\)', script))
    given = {name for step in runs for name in step["env"] if name != "ACCEL_PYTHON"}
    assert given == {f"ACCEL_{name}" for name in read}


def test_outputs_are_of_steps_that_give_them() -> None:
    """Each output names a step's id, and what that step tells: accel itself, or the script."""
    ids = {step["id"] for step in STEPS if "id" in step}
    used = set(re.findall(r"steps\.(\w+)\.outputs\.([\w-]+)", TEXT))
    values = {name: output["value"] for name, output in ACTION["outputs"].items()}
    # where an earlier step failed, the gate's has no outputs
    assert values["verdict"] == "${{ steps.gate.outputs.verdict || 'not run' }}"
    assert all(" || '" in value for value in values.values())
    assert {name for name, _ in used} <= ids
    script = (FOLDER / "gate.py").read_text(encoding="utf-8")
    assert {output for _, output in used} == set(re.findall(r'tell\(\s*"([\w-]+)"', script))


def test_other_actions_are_pinned_by_commit() -> None:
    """A tag can be moved to other code; the version stands beside the commit for people."""
    lines = [line for line in TEXT.splitlines() if "uses:" in line]
    assert len(lines) == 3
    assert all(re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in lines)


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_our_own_workflows_may_read_and_end(name: str) -> None:
    """No right but to read, an end to each job, and what failed is kept, hidden folder or not."""
    flow = yaml.safe_load(WORKFLOWS[name])
    assert flow["permissions"] == {"contents": "read"}
    for job in flow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 120
        last = job["steps"][-1]
        assert last["if"] == "failure()"
        assert re.search(r"upload-artifact@[0-9a-f]{40}$", last["uses"])
        assert last["with"]["include-hidden-files"] is True


def test_every_python_that_is_promised_is_tested() -> None:
    """Those of pyproject.toml's classifiers; a push elsewhere than to main has its pull request."""
    flow = yaml.safe_load(WORKFLOWS["ci"])
    [job] = flow["jobs"].values()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    promised = re.findall(r"Python :: (\d+\.\d+)", project)
    assert job["strategy"]["matrix"]["python"] == promised
    on = flow[True]  # YAML 1.1 reads the word "on" so
    assert on == {"push": {"branches": ["main"]}, "pull_request": None}
    [run] = [step for step in job["steps"] if "run" in step]
    assert run["env"]["ACCEL_JUNIT"] == job["steps"][-1]["with"]["path"]


def test_what_is_uploaded_is_what_accel_writes() -> None:
    """All of a gate's files and its evidence, by their names, in both."""
    github = _using("upload-artifact")["with"]["path"].splitlines()
    gitlab = JOB["artifacts"]["paths"]
    assert _files(github) == _files(gitlab) == set(writing.FILES)
    assert [path.endswith("/evidence/gate") for path in (github[-1], gitlab[-1])] == [True, True]
    assert JOB["artifacts"]["exclude"] == ["accel-gate/evidence/gate/**/*.npz"]
    reports = JOB["artifacts"]["reports"]
    assert set(reports.values()) <= set(gitlab)


def test_a_rerun_takes_up_the_newest_evidence_and_saves_its_own() -> None:
    """Caches never change: another key each time, found by what the keys begin with, kept always."""
    restore, save = _using("cache/restore"), _using("cache/save")
    assert restore["with"]["path"] == save["with"]["path"]
    assert restore["with"]["key"] == save["with"]["key"]
    assert restore["with"]["restore-keys"] == "${{ steps.key.outputs.prefix }}"
    order = [STEPS.index(restore), STEPS.index(save)]
    assert order[0] < next(i for i, step in enumerate(STEPS) if step.get("id") == "gate") < order[1]
    for step in (save, _using("upload-artifact")):
        assert step["if"].startswith("always()")
    assert JOB["cache"]["when"] == JOB["artifacts"]["when"] == "always"


def test_the_key_is_the_tries_own_and_begins_with_what_is_gated(tmp_path: Path) -> None:
    """Another try: another key, the same beginning. Other bytes or another name: neither."""
    release = tmp_path / "release"
    release.mkdir()
    (release / "weights").write_bytes(b"1")
    gated = {"ACCEL_CANDIDATE": "release", "ACCEL_BASELINE": "b.json"}

    def told(**more: str) -> dict[str, str]:
        done, outputs = _script(tmp_path, "key", {**gated, **more})
        assert done.returncode == 0, done.stderr
        assert outputs["key"].startswith(outputs["prefix"])
        return outputs

    first, again, named = told(), told(GITHUB_RUN_ATTEMPT="2"), told(ACCEL_NAME="other")
    anew = told(ACCEL_STREAM="2")
    (release / "weights").write_bytes(b"2")
    changed = told()
    assert first["prefix"] == again["prefix"]
    assert first["folder"] == again["folder"]
    assert len({one["prefix"] for one in (first, named, anew, changed)}) == 4
    keys = [one["key"] for one in (first, again, named, changed, told())]
    assert len(set(keys)) == len(keys)
    assert len({one["artifact"] for one in (first, again)}) == 2


def test_a_hostile_name_stays_a_name(tmp_path: Path) -> None:
    """It adds no output, and nothing that an artifact's name may not hold."""
    hostile = {"ACCEL_CANDIDATE": "r", "ACCEL_BASELINE": "b", "ACCEL_NAME": 'a/b\nkey=evil:"*'}
    done, outputs = _script(tmp_path, "key", hostile)
    assert done.returncode == 0, done.stderr
    assert set(outputs) == {"folder", "prefix", "key", "artifact"}
    assert "evil" not in outputs["key"]
    assert re.fullmatch(r"[\w.-]+", outputs["artifact"])


def test_the_script_passes_on_what_was_said(tmp_path: Path, fake: dict[str, str]) -> None:
    """Words stay whole whatever they hold; further ones are taken apart as by a shell."""
    more = {"ACCEL_NAME": "a b", "ACCEL_WORKLOAD": "w.py", "ACCEL_ARGS": "--budget 'p50/a b=3%'"}
    done, _ = _script(tmp_path, "run", {**fake, **RAN, **more, "verdict": "1"})
    assert done.returncode == 0, done.stderr
    words = json.loads((tmp_path / "asked.json").read_text(encoding="utf-8"))
    out = "accel-gate/12"
    wanted = ["gate", CANDIDATE, "--baseline", "b.json", "--work", f"{out}/evidence"]
    wanted += ["--out", f"{out}/out", "--on-inconclusive", "warn", "--name", "a b"]
    assert words == [*wanted, "--workload", "w.py", "--budget", "p50/a b=3%"]
    assert not (tmp_path / "pwned").exists()


def test_accel_knows_the_words_of_both() -> None:
    """Every option that the script and the job use is one of accel gate's."""
    known = {word for option in cli_gate.gate.params for word in option.opts}
    script = (FOLDER / "gate.py").read_text(encoding="utf-8")
    used = set(re.findall(r"--[a-z-]+", script + JOB["script"][0]))
    assert {"--baseline", "--work", "--out", "--on-inconclusive", "--name", "--workload"} == used
    assert used <= known
    [mode] = [option for option in cli_gate.gate.params if option.name == "on_inconclusive"]
    assert {"warn", "fail", "pass"} == set(mode.to_info_dict()["type"]["choices"])


@pytest.mark.parametrize("code", sorted({*EXIT_CODES.values(), 2, 7}))
def test_the_step_ends_as_accel_does(tmp_path: Path, fake: dict[str, str], code: int) -> None:
    """With a verdict the outputs are accel's own; without one the step says that it did not run."""
    done, outputs = _script(tmp_path, "run", {**fake, **RAN, "code": str(code), "verdict": "1"})
    assert (done.returncode, outputs) == (code, {})
    done, outputs = _script(tmp_path, "run", {**fake, **RAN, "code": str(code)})
    # without a verdict nothing was gated, which is never green
    assert (done.returncode, outputs["verdict"]) == (code or 2, "not run")
    assert outputs["exit-code"] == str(code or 2)
    assert not (
        tmp_path / "accel-gate/12/out"
    ).exists()  # the first run's verdict is not this one's


def test_a_python_without_accel_is_told_how_to_get_it(tmp_path: Path) -> None:
    """Before anything is gated, with the line that installs it."""
    (tmp_path / "accel.py").write_text("raise ImportError('no accel here')")
    done, outputs = _script(tmp_path, "key", {"PYTHONPATH": str(tmp_path), **RAN})
    assert (done.returncode, outputs) == (7, {})
    installs = 'pip install "$(ls vendor/accel_inference-*.whl)[cpu]"'  # it is on no index
    assert installs in done.stdout
    assert installs in (ROOT / ".gitlab" / "accel-gate.yml").read_text(encoding="utf-8")
    assert (ROOT / "README.md").read_text(encoding="utf-8").count(installs) == 2


@pytest.mark.parametrize("named", [False, True])
def test_gitlabs_job_calls_accel_and_ends_as_it_does(
    tmp_path: Path, fake: dict[str, str], named: bool
) -> None:
    """In a shell, with the variables that the job sets; what cannot tell is allowed to fail."""
    shell = shutil.which("sh")
    assert shell
    variables = {**JOB["variables"], "ACCEL_CANDIDATE": CANDIDATE, "code": "3"}
    if named:
        variables |= {"ACCEL_NAME": "a b", "ACCEL_WORKLOAD": "w x.py"}
    [script] = JOB["script"]
    done = subprocess.run(
        [shell, "-c", script], cwd=tmp_path, env={**fake, **variables}, capture_output=True
    )
    words = json.loads((tmp_path / "asked.json").read_text(encoding="utf-8"))
    wanted = ["gate", CANDIDATE, "--baseline", "accel.baselines.json"]
    wanted += ["--name", "a b", "--workload", "w x.py"] if named else []
    wanted += [
        "--on-inconclusive",
        "fail",
        "--work",
        "accel-gate/evidence",
        "--out",
        "accel-gate/out",
    ]
    assert words == wanted
    assert not (tmp_path / "pwned").exists()
    assert done.returncode in JOB["allow_failure"]["exit_codes"] == [EXIT_CODES["cannot tell"]]


@pytest.mark.alone
def test_a_second_try_goes_on_from_the_cache(tmp_path: Path) -> None:
    """By accel itself: what the first try kept is put back in a new checkout, and one epoch is added."""
    from accel import testing

    first, second = tmp_path / "first", tmp_path / "second"
    for place in (first, second):
        testing.mlp(place / "net.onnx")
    gated = {"ACCEL_CANDIDATE": "net.onnx", "ACCEL_BASELINE": "net.onnx", "ACCEL_NAME": "net"}
    more = {"ACCEL_ARGS": "--budget p50=3% --epochs 1 --shadow-every 0"}
    summary = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "GITHUB_ACTIONS": "true"}
    _, named = _script(first, "key", gated)
    cached = Path(named["folder"]) / "evidence"
    for place, epochs in ((first, 1), (second, 2)):
        if place is second:
            shutil.copytree(first / cached, second / cached)
        environment = {**gated, **more, **summary, "ACCEL_FOLDER": named["folder"]}
        done, outputs = _script(place, "run", {**environment, "ACCEL_ON_INCONCLUSIVE": "warn"})
        assert done.returncode == 0, done.stderr
        assert (outputs["verdict"], outputs["exit-code"]) == ("cannot tell", "3")
        assert "::warning title=accel gate net::CANNOT TELL net" in done.stdout
        verdict = place / named["folder"] / "out" / "verdict.json"
        told = json.loads(verdict.read_text(encoding="utf-8"))["data"]
        assert (len(told["epochs"]), told["new_epochs"]) == (epochs, 1)
        assert {path.name for path in verdict.parent.iterdir()} == set(writing.FILES)
    assert _script(second, "key", gated)[1]["prefix"] == named["prefix"]


def test_an_open_quote_in_args_is_no_regression(tmp_path: Path, fake: dict[str, str]) -> None:
    """It ends as bad usage does, and the outputs say that nothing ran."""
    done, outputs = _script(tmp_path, "run", {**fake, **RAN, "ACCEL_ARGS": "--budget 'p50=3%"})
    assert (done.returncode, outputs["verdict"]) == (2, "not run")


def test_what_was_measured_at_packing_is_not_part_of_the_key(tmp_path: Path) -> None:
    """The same artefacts packed again take up the same evidence."""
    release = tmp_path / "release"
    release.mkdir()
    (release / "model.onnx").write_bytes(b"1")
    gated = {"ACCEL_CANDIDATE": "release", "ACCEL_BASELINE": "b.json"}
    prefixes = {_script(tmp_path, "key", gated)[1]["prefix"]}
    for content in (b"a", b"b"):
        # the last two come behind the packing, and say who made it
        for name in ("accel.json", "samples.npz", "summary.md", "model.sig", "sbom.cdx.json"):
            (release / name).write_bytes(content)
        prefixes.add(_script(tmp_path, "key", gated)[1]["prefix"])
    assert len(prefixes) == 1
