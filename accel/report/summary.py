"""summary.md: what a reviewer reads first."""

from __future__ import annotations

import math

from accel import placement, stats
from accel.report import table
from accel.values import Candidate, Certificate, Measurement, Release

ROOFLINE = (
    "roofline: the least time that the target's rates allow (all operations at the rate of their type, or "
    "weights, inputs and outputs once through memory) over the time that was measured. The rates, peaks of "
    "the profile or measured ceilings of the machine, are in accel.json under facts; more than 100 % beats a measured ceiling."
)


def text(release: Release) -> str:
    """The release in a page: winner, speed-ups, certificate, and the whole candidate table."""
    lines = [f"# {release.winner.name}", "", *headline(release), *_where(release.winner)]
    return "\n".join(
        [*lines, "", "## Every candidate", "", table.markdown(release.table), "", ROOFLINE, ""]
    )


def _where(winner: Candidate) -> list[str]:
    """Device and precision of the winner's nodes, where its engine tells."""
    if winner.plan is None or winner.plan.placement is None:
        return []
    told = placement.lines(winner.plan.placement)
    return ["", "## Where it runs", "", *(f"- {line}" for line in told)]


def headline(release: Release) -> list[str]:
    """What the run ended with, a line a fact."""
    winner = release.winner
    if release.certificate is None:
        waiting = sum(c.status == "unmeasured" for c in release.table)
        return [f"unmeasured: {waiting} candidates wait for the device", *release.verdict.reasons]
    lines = [f"winner: {winner.name}"]
    if winner.measurement is not None:
        lines += [*_latency(winner.measurement), *_speedups(winner.measurement, release.baselines)]
        if winner.floor_s is not None:
            lines.append(
                f"{table.share(winner)} of the roofline: {winner.floor_s * 1e3:.3f} ms at least"
            )
        lines.append(f"peak memory: {winner.measurement.peak_memory_bytes / 1e6:.0f} MB")
    return [*lines, f"size: {winner.size_bytes / 1e6:.1f} MB", proof(release.certificate)]


def _latency(measured: Measurement) -> list[str]:
    lines = []
    for group, median_s in stats.group_medians(measured).items():
        high = stats.group_quantile(measured, group, 0.99)
        tail = f"p99 {high * 1e3:.3f} ms" if high is not None else "p99 not carried by the sample"
        lines.append(f"{group}: p50 {median_s * 1e3:.3f} ms, {tail}")
    return lines


def _speedups(measured: Measurement, baselines: tuple[Candidate, ...]) -> list[str]:
    return [
        f"{_ratio(base.measurement, measured, None)} faster than {base.name} (weighted); "
        + ", ".join(
            f"{g}: {_ratio(base.measurement, measured, g)}" for g in dict.fromkeys(measured.groups)
        )
        for base in baselines
        if base.measurement is not None
    ]


def _ratio(base: Measurement, measured: Measurement, group: str | None) -> str:
    found = stats.ratio(base, measured, group)
    return f"{found.point:.2f}x [{found.low:.2f}, {found.high:.2f}]"


def proof(c: Certificate) -> str:
    """The certificate as one line."""
    note = f"; {c.note}" if c.note else ""
    more = ""
    budget = "no budget" if math.isnan(c.budget) else f"budget {c.budget:g}"
    if c.agreement is not None:
        more += f"; {c.fidelity} {c.agreement:.2f} %"
    if c.grade == "consistent" and c.needed_samples is not None:
        more += f"; about {c.needed_samples} samples would certify it"
    return (
        f"{c.grade}: {c.metric} {c.value:.4f} {c.unit}, fp32 {c.baseline:.4f}; drop {c.drop:+.3f} "
        f"[{c.interval[0]:+.3f}, {c.interval[1]:+.3f}], one-sided 95 % bound {c.bound:+.3f}, "
        f"{budget} ({c.method}, {c.samples} samples, {c.split} split{note}){more}"
    )
