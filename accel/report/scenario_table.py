"""The lines that `accel bench --scenario` prints: a table, then what a reader must know of it."""

from __future__ import annotations

from collections.abc import Sequence

from accel import quantiles
from accel.errors import AccelError, CandidateBroken, ConstraintError
from accel.report.scenario import Arm
from accel.report.timing import columns, interval, ms, times


def lines(found: Sequence[Arm]) -> list[str]:
    """A line an arm below a head; then each search, LoadGen's own figures, and the notes."""
    own = next((arm.own for arm in found if arm.own), "")
    rows = [_head(own), *(_row(arm, own) for arm in found)]
    below = [line for arm in found for line in (*_search(arm), *_loadgen(arm), *_notes(arm))]
    return [*columns(rows), *below, *_footer(found)]


def _head(own: str) -> tuple[str, ...]:
    latencies = [f"{name} ms [95 %]" if name in ("p50", own) else f"{name} ms" for name in quantiles.NAMED]  # fmt: skip
    early = (f"MLPerf {own} ms",) if own else ()
    return ("arm", "queries", "samples/s", *latencies, *early, "times as fast as the first [95 %]")


def _row(arm: Arm, own: str) -> tuple[str, ...]:
    if arm.reason:
        blank = ("",) * (len(_head(own)) - 3)
        return (arm.arm, "nothing", *blank, arm.reason.partition("\n")[0])
    cells = [(interval if name in ("p50", own) else ms)(arm.latency[name]) for name in quantiles.NAMED]  # fmt: skip
    early = f"{arm.early_stopping_s * 1e3:.3f}" if arm.early_stopping_s is not None else "too few"
    rate = f"{arm.samples_per_s:.1f}" if arm.samples_per_s is not None else "none"
    return (arm.arm, str(arm.queries), rate, *cells, *((early,) if own else ()), times(arm.ratio))


def _search(arm: Arm) -> list[str]:
    if arm.rate is None:
        return []
    found = arm.rate
    said = (
        f"{found.qps:.4g} queries/s keep p99 inside {found.bound_s * 1e3:g} ms, confirmed by a fresh run"
        if found.qps is not None
        else f"no rate was confirmed to keep p99 inside {found.bound_s * 1e3:g} ms"
    )
    tries = (
        f"{one.qps:.4g} ({'beyond' if one.p99_s is None else f'{one.p99_s * 1e3:.3f} ms'}"
        f"{', inside' if one.inside else ''}{', to confirm' if one.confirming else ''})"
        for one in found.tries
    )
    return [
        f"{arm.arm}: {said}; capacity {found.capacity_qps:.4g} queries/s",
        f"{arm.arm}: runs of the search, queries/s (p99): {', '.join(tries)}",
    ]


def _loadgen(arm: Arm) -> list[str]:
    if arm.loadgen is None:
        return []
    told = arm.loadgen
    why = f" ({', '.join(told.reasons)} not satisfied)" if told.reasons else ""
    bound = "" if told.bound else "; it was given no bound, so that its verdict says nothing of one"
    figures = [f"{name} {seconds * 1e3:.3f} ms" for name, seconds in told.percentiles_s.items()]
    if told.samples_per_s is not None:
        figures.append(f"{told.samples_per_s:.1f} samples/s")
    if told.early_stopping_s is not None:
        figures.append(f"estimate of {arm.own} {told.early_stopping_s * 1e3:.3f} ms")
    verdict = "VALID" if told.valid else "INVALID"
    return [f"{arm.arm}: LoadGen says {verdict}{why}: {', '.join(figures)}{bound}"]


def _notes(arm: Arm) -> list[str]:
    met = {True: "met", False: "not met, or too few queries to say so", None: ""}[arm.bound_met]
    rule = [f"{arm.arm}: MLPerf's rule for p99 inside the bound, at 99 %: {met}"] if met else []
    return [*rule, *(f"{arm.arm}: {note}" for note in arm.notes)]


def _footer(found: Sequence[Arm]) -> list[str]:
    """How the queries were served: the same for all arms of a scenario."""
    served = [arm for arm in found if arm.load is not None and not arm.reason]
    if not served or served[0].load is None:
        return []
    load = served[0].load
    how = "one session an arm, on its plan's threads, serves one query at a time, first come first served"
    if load.scenario == "MultiStream":
        how += f"; a query's {load.samples_per_query} samples go one after the other"
    whole = f"processes an arm: {served[0].epochs}, fresh, {load.seconds:g} s each"
    return [
        f"{load.scenario}: {how}; a sample is one request, whatever its batch; {whole}",
        "intervals are of order statistics and take queries as independent; the ratio's is over processes",
    ]


def trouble(found: Sequence[Arm]) -> AccelError | None:
    """What ends a command: an arm that broke, else one that no rate was found for."""
    broke = [arm for arm in found if arm.reason and arm.rate is None]
    said = "; ".join(f"{arm.arm}: {arm.reason}" for arm in broke or found if arm.reason)
    if not said:
        return None
    return CandidateBroken(said) if broke else ConstraintError(said)
