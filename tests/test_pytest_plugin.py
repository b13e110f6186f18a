"""pytest --accel-gate: what it asks of the gate, and what becomes of a test by what the gate says.

The inner runs load the plugin by its module's name and nothing by entry points, so that they are
alike whether accel is installed or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from accel import pytest_plugin  # noqa: F401  # inner runs share it: filters know it by its class

pytest_plugins = "pytester"
pytestmark = pytest.mark.filterwarnings("default")  # inner runs have the filters of this process

ROOT = Path(__file__).parents[1]
FAKE = '''
import json
from pathlib import Path
import pytest
from accel import evidence
from accel.errors import UsageError

def fake_gate(candidate, baseline, **words):
    """Ends as the candidate's file is called, without a measurement; notes what it was asked."""
    outcome = candidate.stem.replace("_", " ")
    asked = {"candidate": candidate, "baseline": baseline, **words}
    with open("calls.jsonl", "a") as stream:
        stream.write(json.dumps(asked, default=repr) + "\\n")
    if outcome == "usage":
        raise UsageError("no such file: usage.onnx")
    name = words["name"] or "net"
    cell = evidence.Cell(evidence.Budget("p50", 0.03), outcome, ratio=1.0525, low=1.036, high=1.069,
                         epochs=14, label="equivalent" if outcome == "pass" else "")
    fitness = evidence.Fitness(outcome != "unfit")
    judgement = evidence.Judgement(outcome, (cell,), fitness, True)
    arms = [evidence.Subject(arm, path, arm) for arm, path in
            (("candidate", candidate), ("baseline", baseline))]
    seconds = {"baseline": {"p50": 1e-3}, "candidate": {"p50": 1.0525e-3}}
    return evidence.Report(name, outcome, f"{outcome.upper()} {name} p50: said so", judgement,
                           *arms, evidence.Rules(), evidence_head="abc123",
                           epochs=(evidence.Epoch(0, {}, seconds),))

@pytest.fixture(autouse=True)
def faked(monkeypatch):
    monkeypatch.setattr("accel.pytest_gate.gate", fake_gate)
'''
QUIET = ("-W", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning")  # that it saves nothing
BRIEF = ("--benchmark-max-time=0.01", "--benchmark-json=b.json")
ONE = 'def test_it(accel_gate):\n    assert accel_gate("{}.onnx", "base.onnx").name == "net"\n'
OUTCOMES = ("pass", "fail", "cannot tell", "unfit", "broken", "no baseline")


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder whose gates are fakes."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):  # of the run that this is a part of
        monkeypatch.delenv(name, raising=False)
    pytester.makeconftest(FAKE)
    return pytester


def run(inner: pytest.Pytester, *words: str) -> pytest.RunResult:
    """pytest with the plugin, in this process."""
    return inner.runpytest_inprocess("-p", "accel.pytest_plugin", *words)


def asked(inner: pytest.Pytester) -> list[dict[str, Any]]:
    """What the fake was asked, call by call."""
    text = (inner.path / "calls.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def properties(report: Path) -> list[tuple[str | None, str | None]]:
    """The properties in a JUnit file, in their order."""
    return [(p.get("name"), p.get("value")) for p in ET.parse(report).iter("property")]


def test_without_the_flag_a_gate_is_skipped_before_its_fixtures(inner: pytest.Pytester) -> None:
    """The reason names the flag, no model is built for it, and other tests run."""
    inner.makepyfile(
        """
        import pytest
        @pytest.fixture
        def model(): raise AssertionError("built for a test that is skipped")
        def test_gate(model, accel_gate): accel_gate(model, "b")
        def test_late(request): request.getfixturevalue("accel_gate")
        def test_other(): pass
        """
    )
    done = run(inner, "-rs")
    done.assert_outcomes(passed=1, skipped=2)
    done.stdout.fnmatch_lines(["*a performance gate, which measures: run it with --accel-gate*"])


def test_the_marker_selects_the_gates(inner: pytest.Pytester) -> None:
    """-m accel_gate takes the tests that use the fixture, strict about markers or not."""
    inner.makepyfile(ONE.format("pass") + "def test_other(): pass\n")
    done = run(inner, "--accel-gate", "-m", "accel_gate", "--strict-markers")
    done.assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        ("pass", {"passed": 1}),
        ("fail", {"failed": 1}),
        ("cannot tell", {"passed": 1, "warnings": 1}),
        ("unfit", {"errors": 1}),
        ("broken", {"errors": 1}),
        ("no baseline", {"errors": 1}),
        ("usage", {"errors": 1}),
    ],
)
def test_each_outcome_has_its_end(
    inner: pytest.Pytester, outcome: str, counted: dict[str, int]
) -> None:
    """Only a regression is a failure; what was not measured is an error that says so."""
    inner.makepyfile(ONE.format(outcome.replace(" ", "_")))
    done = run(inner, "--accel-gate")
    done.assert_outcomes(**counted)
    text = done.stdout.str()
    assert ("no regression was shown" in text) == ("errors" in counted)
    assert done.ret == (0 if "passed" in counted else 1)


def test_a_failure_is_the_first_line_and_the_table(inner: pytest.Pytester) -> None:
    """No traceback of accel or of the test stands above what the gate says."""
    inner.makepyfile(ONE.format("fail"))
    done = run(inner, "--accel-gate")
    done.stdout.fnmatch_lines(["*FAIL net p50*", "*p50*fail*3*%*14*"])
    done.stdout.no_fnmatch_line("*def test_it*")
    done.stdout.no_fnmatch_line("*pytest_gate.py*")


@pytest.mark.parametrize(
    ("words", "counted"),
    [
        (["--accel-gate-on-inconclusive", "pass"], {"passed": 1}),
        (["--accel-gate-on-inconclusive", "fail"], {"failed": 1}),
        (["-W", "error::accel.pytest_plugin.AccelGateWarning"], {"failed": 1}),
        (
            ["-W", "error", "-W", "default::accel.pytest_plugin.AccelGateWarning"],
            {"passed": 1, "warnings": 1},
        ),
    ],
    ids=["pass", "fail", "warnings are errors", "this one is not"],
)
def test_cannot_tell_is_the_users_to_decide(
    inner: pytest.Pytester, words: list[str], counted: dict[str, int]
) -> None:
    """By the option, or by the warning's own class where warnings are errors."""
    inner.makepyfile(ONE.format("cannot_tell"))
    run(inner, "--accel-gate", *words).assert_outcomes(**counted)


def test_the_warning_points_at_the_test(inner: pytest.Pytester) -> None:
    """The line in the warning is the test's, not accel's."""
    inner.makepyfile(ONE.format("cannot_tell"))
    done = run(inner, "--accel-gate")
    done.stdout.fnmatch_lines(["*test_the_warning_points_at_the_test.py:2: AccelGateWarning*"])


@pytest.mark.parametrize(
    ("budget", "wanted"),
    [
        ('"3%"', ["p50=3%"]),
        ('"p99/short=10%:watch"', ["p99/short=10%:watch"]),
        ('["2%", "size=5%"]', ["p50=2%", "size=5%"]),
        ('{"p50": "3%", "peak_memory": "5% watch"}', ["p50=3%", "peak_memory=5%:watch"]),
        ("None", None),
    ],
)
def test_budgets_in_every_form(
    inner: pytest.Pytester, budget: str, wanted: list[str] | None
) -> None:
    """A share is of the median; lists, dicts and whole lines are taken; none leaves it to accel.toml."""
    from accel.gating import budgets

    inner.makepyfile(f'def test_it(accel_gate): accel_gate("pass.onnx", "b", budget={budget})')
    run(inner, "--accel-gate").assert_outcomes(passed=1)
    found = asked(inner)[0]["budgets"]
    assert found == (wanted and [repr(budgets.parse(line)) for line in wanted])


def test_what_a_test_says_reaches_the_gate(inner: pytest.Pytester) -> None:
    """Workload, name, engine and rules, as they were said; evidence lies where accel gate looks."""
    inner.makepyfile(
        """
        def test_it(accel_gate):
            accel_gate("pass.onnx", "b.json", workload="w.py", name="n", engine="e", alpha_fail=0.02)
        """
    )
    run(inner, "--accel-gate").assert_outcomes(passed=1)
    [call] = asked(inner)
    said = {k: call[k] for k in ("workload", "name", "engine", "out", "rules", "config")}
    wanted = {"workload": "w.py", "name": "n", "engine": "e", "out": None, "config": None}
    assert said == {**wanted, "rules": {"alpha_fail": 0.02}}
    assert call["work"] == repr(inner.path / ".accel")
    assert call["baseline"] == repr(Path("b.json"))


def test_the_projects_settings_hold_in_every_folder(inner: pytest.Pytester) -> None:
    """accel.toml is that of the rootdir, wherever pytest is called from."""
    inner.makefile(".toml", accel="[gate]\n")
    inner.makeini("[pytest]\n")
    inner.mkdir("below").joinpath("test_it.py").write_text(ONE.format("pass"))
    os.chdir(inner.path / "below")
    run(inner, "--accel-gate").assert_outcomes(passed=1)
    [call] = [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]
    assert call["config"] == repr(inner.path / "accel.toml")


def test_the_command_line_bounds_the_epochs(inner: pytest.Pytester) -> None:
    """--accel-gate-epochs goes before what the test says, and takes no nonsense."""
    inner.makepyfile('def test_it(accel_gate): accel_gate("pass.onnx", "b", max_epochs=30)')
    run(inner, "--accel-gate").assert_outcomes(passed=1)
    run(inner, "--accel-gate", "--accel-gate-epochs", "5").assert_outcomes(passed=1)
    assert [call["rules"] for call in asked(inner)] == [{"max_epochs": 30}, {"max_epochs": 5}]
    assert run(inner, "--accel-gate", "--accel-gate-epochs", "0").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('accel_gate(3, "b")', "got int (3)"),
        ('accel_gate("pass.onnx", "b", reference=3)', "got int (3)"),
        ('accel_gate("pass.onnx", "b", budget="3")', "Budget 'p50=3'"),
        ('accel_gate("pass.onnx", "b", budget=3.0)', "Budget 'p50=3.0'"),
        ('accel_gate("pass.onnx", "b", epochs=3)', "does not know epochs"),
        ('accel_gate("usage.onnx", "b")', "no such file: usage.onnx"),
    ],
)
def test_wrong_words_are_an_error_that_says_which(
    inner: pytest.Pytester, call: str, said: str
) -> None:
    """The gate did not run; the text names the value that was seen."""
    inner.makepyfile(f"def test_it(accel_gate): {call}")
    done = run(inner, "--accel-gate")
    done.assert_outcomes(errors=1)
    assert said in done.stdout.str()
    done.stdout.fnmatch_lines(["*: NOT RUN: *"])
    done.stdout.no_fnmatch_line("*During handling*")


def test_values_with_a_path_are_taken(inner: pytest.Pytester) -> None:
    """A model in memory, and whatever a fixture hands over, are gated by their path."""
    inner.makepyfile(
        """
        import pytest
        from pathlib import Path
        from accel.values import Model
        @pytest.fixture
        def candidate(): return Model(Path("pass.onnx"), "digest", (), ())
        def test_it(accel_gate, candidate):
            accel_gate(candidate, str(Path("b") / "c"), reference=candidate)
        """
    )
    run(inner, "--accel-gate").assert_outcomes(passed=1)
    [call] = asked(inner)
    assert call["candidate"] == call["reference"] == repr(Path("pass.onnx"))
    assert call["baseline"] == repr(Path("b/c"))


def test_every_gate_has_a_folder_of_its_own(inner: pytest.Pytester) -> None:
    """Also two of one test, and tests whose long names differ in what no folder's name holds."""
    inner.makepyfile(
        f"""
        import pytest
        @pytest.mark.parametrize("way", ["a/b", "a-b"])
        def test_it{"s_name_is_long" * 20}(accel_gate, way):
            accel_gate("pass.onnx", "b")
            accel_gate("pass.onnx", "c")
        """
    )
    run(inner, "--accel-gate", "--accel-gate-out", "gates").assert_outcomes(passed=2)
    names = [call["out"] for call in asked(inner)]
    assert len(set(names)) == len(names) == 4
    assert all(name.startswith("PosixPath('gates/") and len(name) < 200 for name in names)


def test_the_summary_has_a_line_a_gate(inner: pytest.Pytester) -> None:
    """In the order in which they ran, whatever became of the tests."""
    inner.makepyfile(
        "\n".join(
            f'def test_{i}(accel_gate): accel_gate("{word}.onnx", "b", name="n{i}")'
            for i, word in enumerate(("pass", "fail", "pass", "unfit"))
        )
    )
    done = run(inner, "--accel-gate")
    done.stdout.fnmatch_lines(
        [
            "*accel gates*",
            "*::test_0: PASS n0 p50: said so",
            "*::test_1: FAIL n1 p50: said so",
            "*::test_2: PASS n2 p50: said so",
            "*::test_3: UNFIT n3 p50: said so",
        ]
    )
    assert "accel gates" not in run(inner).stdout.str()


def test_junit_holds_the_verdict(inner: pytest.Pytester) -> None:
    """Verdict, line, ratio and the evidence's last hash; a warning about the family is none."""
    inner.makepyfile(ONE.format("pass"))
    done = run(inner, "--accel-gate", "--junitxml=report.xml", "-W", "error")
    done.assert_outcomes(passed=1)
    assert properties(inner.path / "report.xml") == [
        ("accel_gate.net.verdict", "pass"),
        ("accel_gate.net.line", "PASS net p50: said so"),
        ("accel_gate.net.ratio", "1.0525"),
        ("accel_gate.net.evidence_head", "abc123"),
    ]


@pytest.mark.parametrize("beside", ["", "def test_timed(benchmark): benchmark(int)\n"])
def test_arms_stand_among_the_benchmarks(inner: pytest.Pytester, beside: str) -> None:
    """--benchmark-json holds both arms of each gate, beside benchmarks and without any."""
    pytest.importorskip("pytest_benchmark", reason="of the dev extra; the plugin does without it")
    inner.makepyfile(ONE.format("pass") + beside)
    done = run(inner, "-p", "pytest_benchmark.plugin", "--accel-gate", *BRIEF, *QUIET)
    assert done.ret == 0
    found = json.loads((inner.path / "b.json").read_text(encoding="utf-8"))
    names = [one["name"] for one in found["benchmarks"]]
    assert len(names) == (3 if beside else 2)
    assert {"net[baseline]", "net[candidate]"} <= set(names)
    tests = {one["fullname"].partition("::test_")[0] for one in found["benchmarks"]}
    assert tests == {f"{inner.path.name.rstrip('01')}.py"}
    assert {"machine_info", "commit_info", "datetime", "version"} <= set(found)


@pytest.mark.parametrize("words", [["-n", "2"], ["--dist", "load", "--tx", "2*popen"]])
def test_several_workers_are_refused(inner: pytest.Pytester, words: list[str]) -> None:
    """Before anything runs, with the command that measures alone; without the flag all is well."""
    pytest.importorskip("xdist", reason="of the dev extra; one process is what the rest tests")
    inner.makepyfile(ONE.format("pass"))
    done = run(inner, "-p", "xdist", "--accel-gate", *words)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*pytest -m accel_gate --accel-gate -n 0*"])
    assert not (inner.path / "calls.jsonl").exists()


def test_one_worker_measures_and_reports(inner: pytest.Pytester) -> None:
    """What the gate said crosses to the process that prints."""
    pytest.importorskip("xdist", reason="of the dev extra; one process is what the rest tests")
    inner.makepyfile(ONE.format("unfit"))
    done = run(inner, "-p", "xdist", "--accel-gate", "-n", "1")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*::test_it: UNFIT net p50: said so"])


def test_loading_it_costs_no_library() -> None:
    """At import: the standard library, pytest, and nothing of accel but what `import accel` takes."""
    code = """
import sys, accel, pytest
before = set(sys.modules)
import accel.pytest_plugin
new = set(sys.modules) - before
print(sorted(name for name in new if name.partition(".")[0] not in sys.stdlib_module_names))
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "['accel.pytest_plugin']"


def test_it_is_an_entry_point() -> None:
    """pytest finds the plugin by itself where accel is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"accel": "accel.pytest_plugin"}


@pytest.mark.alone
def test_a_real_gate_continues_and_ends(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model beside itself, by the gate itself: two epochs cannot tell, and a second run adds two."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(
        """
        import pytest
        from accel import testing
        @pytest.fixture
        def model(tmp_path_factory):
            return testing.mlp(tmp_path_factory.mktemp("m") / "net.onnx", width=64)
        def test_it(accel_gate, model):
            assert accel_gate(model, model, "3%", rounds=2, block_s=0.005, shadow_every=0).new_epochs == 2
        """
    )
    words = ["-p", "accel.pytest_plugin", "--accel-gate", "--accel-gate-epochs", "2"]
    words += ["--accel-gate-out", "gates", "--junitxml=report.xml"]
    heads = []
    for epochs in (2, 4):
        done = pytester.runpytest_subprocess(*words)
        done.assert_outcomes(passed=1, warnings=1)
        done.stdout.fnmatch_lines(["*::test_it: CANNOT TELL net p50: *"])
        [verdict] = (pytester.path / "gates").rglob("verdict.json")
        told = json.loads(verdict.read_text(encoding="utf-8"))["data"]
        assert (told["outcome"], len(told["epochs"])) == ("cannot tell", epochs)
        found = dict(properties(pytester.path / "report.xml"))
        assert found["accel_gate.net.evidence_head"] == told["evidence"]["head"]
        heads.append(told["evidence"]["head"])
    assert len(set(heads)) == 2
    assert (pytester.path / ".accel" / "gate").is_dir()
