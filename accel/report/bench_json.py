"""bench.json: pytest-benchmark's file, so that its `compare` and the dashboards that read it do.

An entry an arm; its rounds are the epochs, its data their p50 in seconds. The fields are those of
pytest-benchmark 5.3.1 (stats.py: Stats.fields, Metadata.as_dict; plugin.py:
pytest_benchmark_generate_json). github-action-benchmark reads fullname, stats.ops, mean, stddev and
rounds (src/extract.ts), Bencher fullname, median and iqr (bencher_adapter, python/pytest.rs).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from accel import manifest
from accel.evidence import BASELINE, CANDIDATE, REFERENCE, SHADOW, Epoch, Report
from accel.report import _words as words

VERSION = "5.3.1"  # of the format


def text(report: Report) -> str:
    """The file, with no entry for an arm that no epoch has a time of."""
    document = {
        "machine_info": _machine(report),
        "commit_info": _commit(report),
        "benchmarks": entries(report),
        "datetime": words.clean(report.when),
        "version": VERSION,
    }
    return manifest.text(document) + "\n"


def entries(report: Report) -> list[dict[str, Any]]:
    """One benchmark an arm: the baseline, the candidate, and what else was timed beside them."""
    arms = (BASELINE, CANDIDATE, SHADOW, REFERENCE)
    return [_entry(report, arm, data_s) for arm in arms if (data_s := _data(report.epochs, arm))]


def _data(epochs: Sequence[Epoch], arm: str) -> list[float]:
    """The arm's p50 of each epoch that has one, in seconds."""
    found = [words.known(epoch.values.get(arm, {}).get("p50")) for epoch in epochs]
    return [value for value in found if value is not None]


def _entry(report: Report, arm: str, data_s: Sequence[float]) -> dict[str, Any]:
    name = words.clean(report.name)
    return {
        "group": f"accel gate {name}",
        "name": f"{name}[{arm}]",
        "fullname": f"accel gate::{name}[{arm}]",
        "params": {"arm": arm},
        "param": arm,
        "extra_info": _verdict(report, arm),
        "options": {"warmup": True, "warmup_iterations": report.rules.warmup_calls},
        "stats": {**stats(data_s), "data": list(data_s), "iterations": 1},
    }


def _verdict(report: Report, arm: str) -> dict[str, Any]:
    subjects = {CANDIDATE: report.candidate, REFERENCE: report.reference}
    subject = subjects.get(arm) or report.baseline
    cells = zip(words.names(report.judgement.cells), report.judgement.cells, strict=True)
    return {
        "arm": arm,
        "digest": subject.digest,
        "outcome": report.outcome,
        "line": words.first(report),
        "cells": {name: cell.outcome for name, cell in cells},
        "evidence_head": report.evidence_head,
    }


def stats(data: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's statistics of one or more values; the units are the data's."""
    ordered, mean = sorted(data), statistics.fmean(data)
    deviation = statistics.stdev(data) if len(data) > 1 else 0.0
    q1, q3 = _quartile(ordered, 0.25), _quartile(ordered, 0.75)
    fence = 1.5 * (q3 - q1)  # Tukey's
    inside = [x for x in ordered if q1 - fence <= x <= q3 + fence]
    far = sum(abs(x - mean) > deviation for x in data)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": len(data) - len(inside),
        "stddev_outliers": far,
        "outliers": f"{far};{len(data) - len(inside)}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": 1 / mean if mean else 0,
        "total": math.fsum(data),
    }


def _quartile(ordered: Sequence[float], p: float) -> float:
    """Hazen's: Hyndman & Fan, The American Statistician 50:361 (1996), definition 5.

    At 1/4 and 3/4 it is what pytest-benchmark takes, for odd and for even counts."""
    place = min(max(len(ordered) * p - 0.5, 0), len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _machine(report: Report) -> dict[str, Any]:
    """The keys that pytest-benchmark writes, from the fingerprint: it knows no host's name."""
    seen = report.machine
    return {
        "node": report.machine_class,
        "processor": seen.get("cpu_name", ""),
        "machine": seen.get("architecture", ""),
        "python_version": seen.get("python", ""),
        "release": seen.get("kernel", ""),
        "cpu": {"brand_raw": seen.get("cpu_name", ""), "count": seen.get("cores")},
        "accel": seen,
    }


def _commit(report: Report) -> dict[str, Any]:
    """What is known of the commit; null is not known."""
    return {
        "id": words.clean(report.commit) or "unversioned",
        "time": None,
        "author_time": None,
        "dirty": None,
        "project": words.clean(report.name),
        "branch": "(unknown)",
    }
