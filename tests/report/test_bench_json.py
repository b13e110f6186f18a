"""bench.json, as pytest-benchmark itself reads and computes it."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.stats import Stats

from accel.evidence import Report
from accel.report import bench_json

EXACT = ("rounds", "outliers", "iqr_outliers", "stddev_outliers")


def _compare(folder: Path, report: Report) -> str:
    path = folder / "bench.json"
    path.write_text(bench_json.text(report), encoding="utf-8")
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(path)]
    command += ["--csv", str(folder / "table.csv")]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "Failed to load" not in found.stderr
    return found.stdout


def test_pytest_benchmark_compares_the_arms(make, tmp_path) -> None:
    """Its own command line prints a row an arm, grouped under the gate."""
    found = _compare(tmp_path, make())
    assert "accel gate minilm" in found
    assert "3 tests" in found
    assert all(f"minilm[{arm}]" in found for arm in ("baseline", "candidate", "shadow"))
    assert len((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_every_report_is_read_by_pytest_benchmark(any_report, tmp_path) -> None:
    """No epochs give no rows, hostile names give rows."""
    _compare(tmp_path, any_report)


@pytest.mark.parametrize("n", [*range(1, 14), 40, 41, 42, 43])
def test_the_statistics_are_those_that_pytest_benchmark_computes(n) -> None:
    """Its Stats class, over the same data, outliers among them."""
    source = random.Random(n)
    data = [source.lognormvariate(-4.5, 0.3) for _ in range(n)]
    theirs = Stats()
    for value in data:
        theirs.update(value)
    expected, found = theirs.as_dict(), bench_json.stats(data)
    assert list(found) == list(Stats.fields)
    assert {k: found[k] for k in EXACT} == {k: expected[k] for k in EXACT}
    for key in set(found) - set(EXACT):
        assert found[key] == pytest.approx(expected[key], rel=1e-12), key


def test_the_data_are_the_epochs_medians_in_seconds(make) -> None:
    """An epoch without the arm's time, or with one that is no number, is no round."""
    report = make()
    values = [{"candidate": {"p50": x}, "baseline": {}} for x in (0.01, float("nan"), 0.02)]
    epochs = tuple(
        dataclasses.replace(e, values=v) for e, v in zip(report.epochs, values, strict=False)
    )
    found = bench_json.entries(dataclasses.replace(report, epochs=epochs))
    assert [entry["param"] for entry in found] == ["candidate"]
    assert found[0]["stats"]["data"] == [0.01, 0.02]
    assert found[0]["stats"]["rounds"] == 2


def test_the_verdict_travels_in_extra_info(make) -> None:
    """A dashboard that keeps extra_info keeps the outcome, the evidence and the digest."""
    told = {entry["param"]: entry["extra_info"] for entry in bench_json.entries(make())}
    assert told["candidate"]["outcome"] == "fail"
    assert told["candidate"]["cells"] == {"p50": "fail"}
    assert told["candidate"]["digest"] == "c" * 64
    assert told["baseline"]["digest"] == told["shadow"]["digest"] == "b" * 64


def test_what_dashboards_read_is_there(make) -> None:
    """github-action-benchmark's and Bencher's fields, and the frame around them."""
    document = json.loads(bench_json.text(make()))
    assert set(document) == {"machine_info", "commit_info", "benchmarks", "datetime", "version"}
    for entry in document["benchmarks"]:
        assert entry["fullname"].startswith("accel gate::minilm[")
        assert entry["stats"]["ops"] == pytest.approx(1 / entry["stats"]["mean"])
        assert {"median", "iqr", "stddev", "rounds", "iterations"} <= set(entry["stats"])
    assert document["commit_info"]["id"] == "f" * 40
    assert document["machine_info"]["cpu"] == {"brand_raw": "a cpu", "count": 2}
