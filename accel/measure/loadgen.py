"""A scenario through MLPerf's own load generator, inside a worker, and its summary read back.

LoadGen (mlcommons/inference, loadgen/; the wheel is mlcommons-loadgen) issues a query on its own
thread, takes the latency from the scheduled time to the completion, and reports the sorted latency
at index floor(N q). The query is served within its call, so the queue is in LoadGen: one server,
first come first served, as in `serving`. Its Python binding is in its latencies: 7 us at the median
of 2,839 calls of 1 ms that both timed (LoadGen 6.0.17, two cores of a shared virtual machine).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accel import catalog
from accel.errors import CandidateBroken

SUMMARY = "mlperf_log_summary.txt"
NO_BOUND_S = 3600.0  # LoadGen's Server wants a bound; its verdict on this one says nothing
SHORT = 0.5  # of the pilot's time a call is announced as taking: LoadGen draws its queries before
# it starts, by that time, and a run that comes to their end is INVALID


@dataclass(frozen=True)
class Verdict:
    """What LoadGen's summary says of one run."""

    valid: bool
    reasons: tuple[str, ...] = ()  # of INVALID: the conditions that were not satisfied
    percentiles_s: Mapping[str, float] = field(default_factory=dict)  # "p50", "p90", "p99", "p99.9"
    early_stopping_s: float | None = None  # of the scenario's own percentile; None: too few queries
    samples_per_s: float | None = None  # Offline, and what Server completed
    bound: bool = True  # False: Server was given no bound; VALID says nothing of one
    log: Path | None = None  # the folder of LoadGen's files; None: they were not kept


def require() -> str:
    """LoadGen's version; raises MissingExtra where it is not installed."""
    from importlib import metadata

    try:
        import mlperf_loadgen  # noqa: F401
    except ModuleNotFoundError as error:
        raise catalog.missing("--loadgen", error, "loadgen") from None
    return metadata.version("mlcommons-loadgen")


def serve(
    calls: Sequence[Callable[[], Any]],
    picks: Sequence[int],
    out: str,
    *,
    scenario: str,
    seconds: float,
    qps: float | None,
    bound_s: float | None,
    samples_per_query: int,
    call_s: float,
    seed: int,
) -> None:
    """Run it; LoadGen writes its files into the folder `out`. Sample i of its library is the
    request picks[i]. `call_s`: what a call takes, roughly."""
    import mlperf_loadgen as lg

    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms, settings.min_query_count = int(seconds * 1e3), 1
    settings.multi_stream_samples_per_query = samples_per_query
    settings.single_stream_expected_latency_ns = SHORT * call_s * 1e9
    settings.multi_stream_expected_latency_ns = SHORT * call_s * samples_per_query * 1e9
    settings.offline_expected_qps = 1 / call_s / SHORT
    settings.server_target_qps = qps or 1.0
    settings.server_target_latency_ns = int((bound_s or NO_BOUND_S) * 1e9)
    settings.schedule_rng_seed, settings.sample_index_rng_seed = seed + 1, seed + 2
    log = lg.LogSettings()
    log.log_output.outdir, log.enable_trace = out, False
    sut = lg.ConstructSUT(_issue(lg, [calls[i] for i in picks]), lambda: None)
    library = lg.ConstructQSL(len(picks), len(picks), lambda _: None, lambda _: None)
    lg.StartTestWithLogSettings(sut, library, settings, log)
    lg.DestroyQSL(library)
    lg.DestroySUT(sut)


def _issue(lg: Any, samples: Sequence[Callable[[], Any]]) -> Callable[[Any], None]:
    def issue(query: Any) -> None:
        for one in query:
            samples[one.index]()
            lg.QuerySamplesComplete([lg.QuerySampleResponse(one.id, 0, 0)])

    return issue


def read(out: Path, kept: bool, bound: bool = True) -> Verdict:
    """The summary in the folder `out`. Raises CandidateBroken where it says nothing."""
    path = out / SUMMARY
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    said = re.search(r"Result is : (VALID|INVALID)", text)
    if said is None:
        raise CandidateBroken(f"LoadGen left no result in {path}. What it said: less {out}")
    named = {f"p{float(q):g}": float(ns) * 1e-9 for q, ns in re.findall(r"^([\d.]+) percentile latency \(ns\)\s*: (\d+)", text, re.M)}  # fmt: skip
    rate = re.search(r"(?:Samples per second|Completed samples per second)\s*: ([\d.e+]+)", text)
    early = re.search(r"Early stopping [\d.]+th percentile estimate: (\d+)", text)
    return Verdict(
        said[1] == "VALID",
        tuple(re.findall(r"^\s+(.+?) ?satisfied ?: NO$", text, re.M)),
        {name: named[name] for name in ("p50", "p90", "p99", "p99.9") if name in named},
        float(early[1]) * 1e-9 if early else None,
        float(rate[1]) if rate else None,
        bound,
        out if kept else None,
    )
