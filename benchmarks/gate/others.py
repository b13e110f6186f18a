"""How other tools decide that code became slower: each rule as its source has it, in a few lines.

A rule gets two [processes, rounds] arrays of seconds, baseline and candidate, and answers whether it
calls the candidate slower. What it is given is in `given`; `processes` is how many epochs of each arm
that takes. Nothing was copied: the rules were read and written anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, t

Times = NDArray[Any]  # [processes, rounds] seconds


@dataclass(frozen=True)
class Other:
    """Another tool's rule."""

    name: str
    processes: int  # of each arm
    given: str
    source: str
    slower: Callable[[Times, Times], bool]
    ways: tuple[str, ...] = ("apart", "beside")  # see rules.py


def _pytest_benchmark(statistic: Callable[[Times], Any]) -> Callable[[Times, Times], bool]:
    def slower(base: Times, cand: Times) -> bool:
        return float(statistic(cand) / statistic(base)) * 100 - 100 > 5

    return slower


def _p(base: Times, cand: Times) -> float:
    return float(mannwhitneyu(base, cand, alternative="two-sided").pvalue)


def _asv(base: Times, cand: Times) -> bool:
    a, b = base.ravel(), cand.ravel()
    if 1 / math.comb(len(a) + len(b), min(len(a), len(b))) >= 0.002:
        raise ValueError("so few samples that asv would look at intervals; give it more")
    return _p(a, b) < 0.002 and bool(np.median(a) < np.median(b) / 1.1)


def _benchstat(base: Times, cand: Times) -> bool:
    a, b = np.median(base, axis=1), np.median(cand, axis=1)
    return _p(a, b) < 0.05 and bool(np.median(b) > np.median(a))


def _google(base: Times, cand: Times) -> bool:
    a, b = base.ravel(), cand.ravel()
    return _p(a, b) < 0.05 and bool(np.median(b) > np.median(a))


def _pyperf(base: Times, cand: Times) -> bool:
    a, b = base[:, :3].ravel(), cand[:, :3].ravel()
    pooled = (a.var(ddof=1) + b.var(ddof=1)) / 2  # equal sizes
    score = (b.mean() - a.mean()) / math.sqrt(2 * pooled / len(a))
    return bool(score >= t.ppf(0.975, 2 * len(a) - 2))


def _nvbench(base: Times, cand: Times) -> bool:
    a, b = base.ravel(), cand.ravel()
    noise = min(a.std(ddof=1) / a.mean(), b.std(ddof=1) / b.mean())
    return bool((b.mean() - a.mean()) / a.mean() > noise)


def _threshold(base: Times, cand: Times) -> bool:
    return bool(np.median(cand) > 1.05 * np.median(base))


OTHERS = (
    Other(
        "pytest-benchmark mean:5%",
        1,
        "the rounds of one process against those of one stored process",
        "pytest-benchmark 5.3.1, utils.py, PercentageRegressionCheck",
        _pytest_benchmark(np.mean),
    ),
    Other(
        "pytest-benchmark median:5%",
        1,
        "the same",
        "the same",
        _pytest_benchmark(np.median),
    ),
    Other(
        "pytest-benchmark median:5%, 9 processes",
        9,
        "the rounds of nine processes, pooled: more than the tool runs by itself",
        "the same",
        _pytest_benchmark(np.median),
    ),
    Other(
        "stored baseline, median > 5 %",
        9,
        "nine processes' rounds, pooled, against the stream's first nine",
        "a script that many keep; no one's in particular",
        _threshold,
        ("stored",),
    ),
    Other(
        "asv compare (factor 1.1)",
        2,
        "the rounds of two processes each (asv's default of 2 rounds), Mann-Whitney p < .002",
        "airspeed-velocity/asv, commands/compare.py (_is_result_better) and statistics "
        "(is_different); with this many samples the overlap of intervals is never asked",
        _asv,
    ),
    Other(
        "benchstat",
        10,
        "a median a process, ten of each (-count=10), Mann-Whitney p < .05",
        "golang.org/x/perf, benchmath/anone.go (assumeNothing.Compare) at af31a76",
        _benchstat,
    ),
    Other(
        "Mann-Whitney (Google Benchmark)",
        1,
        "a process' rounds as its repetitions, p < .05",
        "google/benchmark, tools/gbench/report.py (calc_utest); 9 repetitions are advised there",
        _google,
    ),
    Other(
        "pyperf compare_to",
        20,
        "three values of each of 20 processes (pyperf's default), pooled t at 95 %",
        "psf/pyperf, pyperf/_utils.py (is_significant) at 008adc4",
        _pyperf,
    ),
    Other(
        "nvbench-compare (legacy)",
        1,
        "a process' rounds: means differ by more than the smaller relative standard deviation",
        "NVIDIA/nvbench, python/scripts/nvbench_compare_legacy.py (compare_gpu_timings) at 0f6e712",
        _nvbench,
    ),
)
