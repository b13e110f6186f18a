"""`accel inspect`: what is in an .onnx, what it costs at least on a target, whether it builds there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from accel.cli_legality import judge
from accel.errors import UsageError
from accel.shell import emit, output_options
from accel.words import PLACE, TEXT

DIGITS, SHOWN = 19, 40  # of a size: what an int64 holds; of a wrong one: what is repeated
LARGEST = 10  # nodes and values that the text shows; --json has them all


@click.command()
@click.argument("model", type=PLACE)
@click.option("--roofline", is_flag=True, help="operations, bytes, the least time, peak memory")
@click.option(
    "--target", type=TEXT, help="of --roofline: a profile, or a .toml  [default: cpu-local]"
)
@click.option(
    "--size",
    "sizes",
    type=TEXT,
    multiple=True,
    help="of an open axis: batch=8 (repeatable); else 1",
)
@click.option("--for", "device", type=TEXT, help="would it build there? a profile, or a .toml")
@click.option("--lint", is_flag=True, help="of Q/DQ alone; for --for, else for cpu-local")
@click.option("--data", type=TEXT, help="of --for: .npz of feeds, the sizes of open axes")
@click.option(
    "--fix", "out", type=PLACE, help="of --for and --lint: write the graph with what can be mended"
)
@click.option("--placement", is_flag=True, help="of a release: device and precision of its nodes")
@output_options
def inspect(
    model: Path,
    roofline: bool,
    target: str | None,
    sizes: Sequence[str],
    device: str | None,
    lint: bool,
    data: str | None,
    out: Path | None,
    placement: bool,
    as_json: bool,
    **_: Any,
) -> None:
    """What is in an .onnx: ports, opset, operators, parameters, size, dtypes.

    --roofline: what each node costs at least on a target, and its peak of memory. A workload's .py
    is exported first: accel export.

    --for: static checks against a target. Exit 1: errors, 3: nothing worse than unknown.

    --lint: the same checks, of quantized graphs alone: what makes engines slow or wrong.

    --placement: MODEL is a release."""
    device = "cpu-local" if device is None and lint else device
    if device is None and (data is not None or out is not None):
        raise UsageError(
            "--data and --fix go with --for TARGET, or --lint. Run: accel list targets"
        )
    if (device is not None) + (roofline or bool(target or sizes)) + placement > 1:
        raise UsageError("--roofline, --for and --placement are questions: ask one at a time.")
    if placement:
        _placement(model, as_json)
    elif device is not None:
        judge(model, device, data, out, lint, as_json)
    elif roofline:
        _roofline(model, target or "cpu-local", sizes, as_json)
    elif target or sizes:
        raise UsageError("--target and --size belong to --roofline. Add it, or leave them out.")
    else:
        _content(model, as_json)


def _content(model: Path, as_json: bool) -> None:
    from accel.questions import inspect as question

    found = question.inspect(model)
    ports = [f"{k} {p.name}: {p.dtype} {list(p.shape)}" for k in ("input", "output") for p in getattr(found, f"{k}s")]  # fmt: skip
    lines = [
        *ports,
        f"opset: {dict(found.opsets)}",
        f"operators: {dict(found.operators)}",
        f"parameters: {found.parameters:,} {dict(found.dtypes)}",
        f"size: {found.size_bytes / 1e6:.2f} MB",
        *(f"note: {line}" for line in found.remarks),
    ]
    emit("inspect", found, lines, as_json)


def _placement(release: Path, as_json: bool) -> None:
    from accel import placement as ledger
    from accel.questions import placement as question

    found = question.placement(release)
    winner, *others = found
    lines = [f"{winner.name}:", *(f"  {line}" for line in ledger.lines(winner.placement))]
    lines += [f"{other.name}: {ledger.line(other.placement)}" for other in others]
    emit("placement", found, lines, as_json)


def _roofline(model: Path, target: str, sizes: Sequence[str], as_json: bool) -> None:
    from accel.questions import roofline as question

    given = [_size(text) for text in sizes]
    if twice := [name for i, (name, _) in enumerate(given) if name in dict(given[:i])]:
        raise UsageError(f"--size gives {twice[0]!r} twice. Each axis has one size: ask again.")
    found = question.ask(model, target, dict(given))
    emit("roofline", found, list(_told(found)), as_json)


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal() or len(number) > DIGITS:
        told = repr(text[:SHOWN]) + "..." * (len(text) > SHOWN)
        raise UsageError(f"--size takes an axis and a whole number, batch=8, not {told}.")
    return name, int(number)


def _told(found: Any) -> Iterator[str]:
    floor, peak = found.floor, found.peak
    yield f"on {found.target}, sizes {dict(found.sizes)}"
    yield f"rates: {found.source}: " + ", ".join(f"{k} {v:.3g}" for k, v in found.rates.items())
    work = ", ".join(f"{n / 1e6:,.2f} M {dtype}" for dtype, n in floor.operations.items())
    yield f"operations: {work}; bytes at least: {floor.least_bytes / 1e6:,.3f} MB"
    bound = f", bound by {floor.bound}" if floor.bound else ""
    yield f"least: {_us(floor.least_s)}{bound} (the whole graph fused)"
    yield f"unfused: {_us(floor.unfused_s)} (node after node through memory)"
    if floor.missing:
        yield f"not in the profile, and not counted: {', '.join(floor.missing)}"
    yield from _operators(floor)
    yield from _nodes(floor)
    for node in floor.unknown:
        yield f"unknown: {node.work.operator} {node.work.name}: {node.work.unknown}"
    yield from _memory(peak, found.memory_bytes)


def _us(seconds: float | None) -> str:
    return "cannot be told without rates" if seconds is None else f"{seconds * 1e6:,.2f} us"


def _operators(floor: Any) -> Iterator[str]:
    operations: Counter[str] = Counter()
    times: defaultdict[str, float] = defaultdict(float)
    counts = Counter(node.work.operator for node in floor.nodes)
    for node in floor.nodes:
        operations[node.work.operator] += node.work.operations
        times[node.work.operator] += node.floor_s or 0.0
    for name in sorted(counts, key=lambda n: (-times[n], -operations[n]))[:LARGEST]:
        yield f"  {counts[name]:4} {name}: {operations[name] / 1e6:,.3f} M, {_us(times[name])}"


def _nodes(floor: Any) -> Iterator[str]:
    ranked = sorted(floor.nodes, key=lambda n: -(n.floor_s or 0.0))
    for node in ranked[:LARGEST]:
        work = node.work
        moved = (work.read_bytes + work.written_bytes) / 1e6
        yield (
            f"  {work.name} ({work.operator}, {work.dtype}): {work.operations / 1e6:,.3f} M, "
            f"{moved:,.3f} MB, {_us(node.floor_s)}, {node.bound or 'unknown'}"
        )


def _memory(peak: Any, memory_bytes: int | None) -> Iterator[str]:
    of = f" of {memory_bytes / 1e6:,.0f} MB" if memory_bytes else ""
    yield (
        f"peak memory: {peak.total_bytes / 1e6:,.3f} MB{of}: weights "
        f"{peak.weights_bytes / 1e6:,.3f}, values {peak.activations_bytes / 1e6:,.3f} at {peak.node}"
    )
    for name in peak.unknown:
        yield f"unknown size: {name}"
