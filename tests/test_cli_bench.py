"""accel bench: the scenarios on the command line, and what their rows are computed from."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from accel import testing
from accel.cli import cli
from accel.cli_bench import SCENARIOS
from accel.errors import CandidateBroken, ConstraintError, UsageError
from accel.measure.loadgen import Verdict
from accel.measure.rates import Rate, Try
from accel.measure.scenarios import Load, Run, Scenario
from accel.report import scenario, scenario_table
from accel.steps.serve import Served
from accel.values import Refusal, Release, Request

ROOT = Path(__file__).parents[1]
BRIEF = ["--seconds", "0.3", "--epochs", "2"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    testing.mlp(folder / "one.onnx")
    testing.mlp(folder / "two.onnx", seed=1)
    return folder


@pytest.fixture
def bench(files: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """bench(*words) -> what the command says, run beside the files."""
    monkeypatch.chdir(files)

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(cli, ["bench", *words])

    return invoke


def loaded(path: str | Path) -> dict[str, Any]:
    with np.load(path) as found:
        return dict(found)


def rows(found: Result) -> Any:
    """The arms of the one document on stdout."""
    document = json.loads(found.stdout)
    assert (document["schema"], document["schema_version"]) == ("accel/scenario", 1)
    return document["data"]


@pytest.mark.alone
@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["SingleStream"], "p90"),
        (["MultiStream", "--samples-per-query", "4"], "p99"),
        (["Server", "--qps", "400"], "p99"),
        (["Offline"], ""),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else x,
)
def test_every_scenario_on_the_command_line(
    bench: Any, tmp_path: Path, words: list[str], own: str
) -> None:
    """What is printed is recomputed from the samples that were kept; Server has two models."""
    models, epochs = (["one.onnx", "two.onnx"], 2) if words[0] == "Server" else (["one.onnx"], 1)
    brief = [*BRIEF[:2], "--epochs", str(epochs)]
    found = bench(*models, "--scenario", *words, *brief, "--json", "--out", str(tmp_path))
    assert found.exit_code == 0, (found.exception, found.output)
    arms = rows(found)
    assert [(row["arm"], row["own"]) for row in arms] == [(model, own) for model in models]
    for row in arms:
        kept = [loaded(path) for path in row["samples"]]
        latency_s = np.concatenate([k["ended_ns"] - k["scheduled_ns"] for k in kept]) * 1e-9
        assert (row["queries"], row["epochs"], row["unserved"]) == (len(latency_s), epochs, 0)
        assert row["latency"]["p50"]["value_s"] == pytest.approx(float(np.median(latency_s)))
        carried = {q: row["latency"][q] is not None for q in ("p90", "p99", "p99.9")}
        least = {"p90": 100, "p99": 1000, "p99.9": 10_000}
        assert carried == {q: len(latency_s) >= n for q, n in least.items()}
        for one in filter(None, row["latency"].values()):
            assert one["low_s"] <= one["value_s"] <= one["high_s"]
            assert one["coverage"] >= 0.95
        spent = sum(int(k["ended_ns"][-1]) for k in kept) * 1e-9
        assert row["samples_per_s"] == pytest.approx(sum(k["request"].size for k in kept) / spent)
        assert 0 < row["busy"] <= 1
        assert row["generator"]["max_s"] >= (row["generator"]["p99_s"] or 0) >= 0
    if epochs == 2:
        first, second = (row["ratio"] for row in arms)
        assert first == {"point": 1.0, "low": 1.0, "high": 1.0}
        assert second["low"] <= second["point"] <= second["high"]
    progress = [line for line in found.stderr.splitlines() if ", epoch " in line]
    assert len(progress) == epochs * len(models)


@pytest.mark.alone
def test_quiet_has_no_progress_and_samples_are_dropped(bench: Any) -> None:
    """Without --out no path is told; the table is the whole output."""
    words = ["--scenario", "SingleStream", "--seconds", "0.3", "--epochs", "1", "--quiet"]
    found = bench("one.onnx", *words)
    assert found.exit_code == 0, found.exception
    assert found.stderr == ""
    head, row, *rest = found.stdout.splitlines()
    assert ("p90 ms [95 %]" in head, "MLPerf p90 ms" in head) == (True, True)
    assert row.startswith("one.onnx")
    assert any("one query at a time, first come first served" in line for line in rest)
    assert "/" not in row


@pytest.mark.alone
def test_a_bound_that_no_rate_keeps_ends_with_1(bench: Any) -> None:
    """Not broken: the answer says how far down it went, and what to do."""
    words = ["--scenario", "Server", "--latency-bound", "0.0001ms", *BRIEF, "--json"]
    found = bench("one.onnx", *words)
    assert found.exit_code == 1
    assert "no rate kept p99 inside 0.0001 ms" in found.stderr
    (row,) = rows(found)
    assert row["rate"]["qps"] is None
    assert not any(one["inside"] for one in row["rate"]["tries"])


@pytest.mark.alone
def test_the_largest_rate_is_found_and_confirmed(bench: Any) -> None:
    """With a bound of minutes, nearly all of the capacity holds; the run is at that rate."""
    words = [
        "--scenario",
        "Server",
        "--latency-bound",
        "500s",
        "--seconds",
        "0.3",
        "--epochs",
        "1",
        "--json",
    ]
    found = bench("one.onnx", *words)
    assert found.exit_code == 0, found.exception
    (row,) = rows(found)
    rate = row["rate"]
    assert rate["confirmed"]
    assert rate["tries"][-1]["confirming"]
    assert row["load"]["qps"] == rate["qps"]
    assert rate["qps"] >= 0.95 * rate["capacity_qps"]
    assert row["bound_met"] is True
    assert "runs of the search" in found.stderr


@pytest.mark.alone
def test_calls_side_by_side_have_intervals(bench: Any) -> None:
    """Without a scenario too: each quantile that is carried, with its interval."""
    found = bench("one.onnx", "--epochs", "1", "--json", "--quiet")
    assert found.exit_code == 0, found.exception
    (row,) = json.loads(found.stdout)["data"]
    group = row["groups"]["random"]
    p50 = group["quantiles"]["p50"]
    assert p50["value_s"] == group["p50_s"]
    assert p50["low_s"] <= p50["value_s"] <= p50["high_s"]
    assert list(group["quantiles"]) == ["p50", "p90", "p99", "p99.9"]
    head = found.stderr.splitlines()[0]
    assert [name for name in ("p50 ms [95 %]", "p90 ms", "p99 ms", "p99.9 ms") if name in head] == [
        "p50 ms [95 %]", "p90 ms", "p99 ms", "p99.9 ms",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scenario", "Server"], "--qps 50, or --latency-bound 20ms"),
        (["--scenario", "SingleStream", "--qps", "5"], "go with Server"),
        (["--scenario", "Offline", "--latency-bound", "5ms"], "go with Server"),
        (["--scenario", "Server", "--qps", "0"], "above 0 is needed"),
        (["--scenario", "Server", "--qps", "nan"], "above 0 is needed"),
        (["--scenario", "Server", "--qps", "1e9"], "at most 5000000 are allowed"),
        (["--scenario", "Offline", "--seconds", "-1"], "above 0 is needed"),
        (["--scenario", "Cloud"], "'Cloud' is not one of"),
        (["--scenario", "Server", "--latency-bound", "5"], "needs one of the units ms, s"),
        (["--qps", "5"], "--qps: a scenario takes them"),
        (["--loadgen"], "--loadgen: a scenario takes them"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_words_that_do_not_go_together_end_with_2(bench: Any, words: list[str], said: str) -> None:
    """Before anything is run; the message says what would."""
    found = bench("one.onnx", *words)
    code = getattr(found.exception, "exit_code", found.exit_code)
    assert code == 2, found.exception
    assert said in f"{found.exception} {found.output}"


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Request, ...]]:
    """The requests that would be timed; nothing is run, and the command ends with 6."""
    found: list[tuple[Request, ...]] = []

    def noted(plans: Any, requests: tuple[Request, ...], *_: object, **__: object) -> Any:
        found.append(requests)
        raise CandidateBroken("noted")

    monkeypatch.setattr("accel.steps.bench.bench", noted)
    return found


def test_data_is_what_releases_are_timed_at(
    bench: Any,
    timed: list[tuple[Request, ...]],
    packed: Callable[..., Release],
    tmp_path: Path,
) -> None:
    """Each feed as often as the others, in place of the release's requests; feeds of another graph
    are refused."""
    release, feeds = str(packed().path), tmp_path / "feeds.npz"
    x = np.ones((7, 4), np.float32)
    np.savez(feeds, **{"0/x": x, "1/x": x[:2]})
    bench(release)
    bench(release, "--data", str(feeds))
    own, given = timed
    assert [(r.group, r.weight, r.inputs["x"].shape) for r in given] == [
        ("data", 0.5, (7, 4)),
        ("data", 0.5, (2, 4)),
    ]
    assert [r.group for r in own] != ["data", "data"]
    np.savez(feeds, z=x)
    assert "and the model differ in" in str(bench(release, "--data", str(feeds)).exception)
    assert len(timed) == 2


def test_an_engine_that_nothing_is_built_for_is_refused(
    bench: Any, timed: list[tuple[Request, ...]], packed: Callable[..., Release]
) -> None:
    """Releases bring their own; beside an .onnx, it is the .onnx' engine."""
    release, words = str(packed().path), ["--engine", "onnxruntime_cpu"]
    found = bench(release, release, *words)
    assert isinstance(found.exception, UsageError)
    assert "a release brings its own engine" in str(found.exception)
    assert timed == []
    bench(release, "one.onnx", *words)
    assert len(timed) == 1


def test_the_command_knows_every_scenario() -> None:
    """Its own list, so that help imports little, is the instrument's."""
    assert typing.get_args(Scenario) == SCENARIOS


def test_loadgen_that_is_missing_ends_with_7(files: Path, tmp_path: Path) -> None:
    """Before anything is run, with the line that installs it."""
    (tmp_path / "mlperf_loadgen.py").write_text(
        "raise ModuleNotFoundError('absent', name='mlperf_loadgen')\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    words = ["bench", "one.onnx", "--scenario", "Offline", "--loadgen"]
    found = subprocess.run(
        [sys.executable, "-m", "accel", *words],
        cwd=files, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 7, found.stderr
    assert "pip install 'accel-inference[loadgen]'" in found.stderr


def made(folder: Path, name: str, milliseconds: list[float], load: Load, due_ms: float = 0) -> Run:
    """A run with these service times, each due `due_ms` after the one before it."""
    service = np.asarray([int(1e6 * x) for x in milliseconds])
    due = (1e6 * due_ms * np.arange(len(service))).astype(np.int64)
    started, ended, free = np.zeros_like(due), np.zeros_like(due), 0
    for k in range(len(service)):
        started[k] = max(free, due[k])
        free = ended[k] = started[k] + service[k]
    path = folder / f"{name}.npz"
    request = np.zeros((len(due), 1), np.int64)
    np.savez(path, scheduled_ns=due, started_ns=started, ended_ns=ended, request=request)
    return Run("arm", 0, load, path, 0.001, 0.1, 0.01, 1, 0.0)


def served(folder: Path, name: str, *runs: list[float], due_ms: float = 10, **words: Any) -> Served:
    load = words.pop("load", Load("Server", qps=100.0))
    made_up = [made(folder, f"{name}{i}", r, load, due_ms) for i, r in enumerate(runs)]
    return Served(name, load, tuple(made_up), **words)


def test_the_ratio_pairs_epochs(tmp_path: Path) -> None:
    """Twice as fast in one epoch, eight times in the other: 4, with Student's interval by hand."""
    slow = served(tmp_path, "slow", [8.0] * 30, [8.0] * 30)
    fast = served(tmp_path, "fast", [4.0] * 30, [1.0] * 30)
    found = scenario.ratio(slow.runs, fast.runs)
    assert found is not None
    reach = 12.7062 * math.log(8 / 2) / 2  # t(0.975, 1) x sd / sqrt(2), sd = |difference| / sqrt(2)
    assert found.point == pytest.approx(4.0)
    assert found.high == pytest.approx(4 * math.exp(reach), rel=1e-3)
    assert found.low == pytest.approx(4 * math.exp(-reach), rel=1e-3)
    assert scenario.ratio(slow.runs[:1], fast.runs[:1]) is None
    other = served(tmp_path, "other", [1.0] * 30, [1.0] * 30, load=Load("Server", qps=50.0))
    assert scenario.ratio(slow.runs, other.runs) is None


def test_a_row_by_hand(tmp_path: Path) -> None:
    """Service of 6 ms every 10 ms: 60 % busy, nobody waits; every 3 ms: latencies grow by 3."""
    idle = scenario.arm(served(tmp_path, "idle", [6.0] * 40), None, kept=False)
    assert idle.service_s == pytest.approx(0.006)
    assert idle.busy == pytest.approx(40 * 6 / (39 * 10 + 6))
    assert idle.latency["p50"] is not None
    assert idle.latency["p50"].value_s == pytest.approx(0.006)
    assert (idle.latency["p90"], idle.early_stopping_s, idle.samples) == (None, None, ())
    assert idle.notes == ()
    full = scenario.arm(served(tmp_path, "full", [6.0] * 40, due_ms=3), None, kept=True)
    assert full.latency["p50"] is not None
    assert full.latency["p50"].value_s == pytest.approx(0.006 + 0.003 * 19.5)
    assert full.busy == 1.0
    assert full.samples == (tmp_path / "full0.npz",)


def test_a_loop_that_is_late_itself_is_told(tmp_path: Path) -> None:
    """Started 1 ms late for calls of 5 ms: a sixth of the latency is the loop's."""
    run = made(tmp_path, "late", [5.0] * 30, Load("Server", qps=100.0), due_ms=10)
    data = loaded(run.samples)
    data["started_ns"] += 1_000_000
    data["ended_ns"] += 1_000_000
    np.savez(run.samples, **data)
    found = scenario.arm(Served("late", run.load, (run,)), None, kept=False)
    assert found.generator is not None
    assert (found.generator.fit, found.generator.judged) == (False, "p50")
    assert found.generator.share == pytest.approx(1 / 6)
    assert "late by 16.7%" in found.notes[0]


def test_lines_tell_the_search_loadgen_and_the_notes(tmp_path: Path) -> None:
    """What a reader must know stands below the table; a broken arm keeps its reason."""
    rate = Rate(90.0, 0.02, 120.0, (Try(60.0, 0.01, True), Try(105.0, None, False), Try(90.0, 0.019, True, True)), True)  # fmt: skip
    told = Verdict(False, ("Early stopping",), {"p50": 0.006}, None, 99.0)
    one = served(tmp_path, "one", [6.0] * 40, rate=rate, loadgen=told)
    arms = [scenario.arm(x, one, kept=False) for x in (one, Refusal("two", "no such file\nmore"))]
    text = "\n".join(scenario_table.lines(arms))
    for part in (
        "90 queries/s keep p99 inside 20 ms, confirmed",
        "60 (10.000 ms, inside), 105 (beyond), 90 (19.000 ms, inside, to confirm)",
        "LoadGen says INVALID (Early stopping not satisfied): p50 6.000 ms, 99.0 samples/s",
        "no such file",
        "too few",
    ):
        assert part in text
    assert "more" not in text
    assert isinstance(scenario_table.trouble(arms), CandidateBroken)
    assert scenario_table.trouble(arms[:1]) is None
    none = Served("x", one.load, (), Rate(None, 0.02, 120.0, rate.tries[1:2], False))
    trouble = scenario_table.trouble([scenario.arm(none, None, kept=False)])
    assert isinstance(trouble, ConstraintError)
    assert "down to 105 queries/s" in str(trouble)
