"""accel kernels build: every kernel for every GPU, and the ledger of what each costs there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from accel import disk
from accel.cuda import building
from accel.cuda import ledger as ledgers
from accel.cuda.building import Built, Job, Written
from accel.cuda.ledger import Cell, Ledger, Row
from accel.values import Refusal, Target


def build(
    kernels: Sequence[str],
    gpus: Sequence[Target],
    out: Path | None,
    toolchain: Mapping[str, str],
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Ledger, tuple[Refusal, ...]]:
    """Compile and assemble each op, dtype and variant for each kind of GPU: what it costs, what failed.

    With `out`, each GPU's .ptx and .cubin is written there, and a manifest of digests once all are: where one failed there is none.
    Raises EnvironmentProblem where the toolchain is absent or the disk refuses."""
    if out is not None:
        building.clear(out)
    jobs = list(building.jobs(kernels, ledgers.kinds(gpus)))
    made: list[tuple[Job, Built]] = []
    written: list[Written] = []
    refused: list[Refusal] = []
    for job, found in building.told(jobs, progress):
        if isinstance(found, Refusal):
            refused.append(found)
            continue
        made.append((job, found))
        if out is not None:
            alike = [g for g in gpus if ledgers.label(g) == ledgers.label(job.target)]
            own = [dataclasses.replace(job, target=gpu) for gpu in alike]
            written += [building.write(out, one, found) for one in own]
    sources = {k: ledgers.source_digest(k) for k in kernels}
    if out is not None and not refused:
        building.seal(out, written, toolchain, sources)
    targets = {gpu.name: ledgers.label(gpu) for gpu in gpus}
    return Ledger(dict(toolchain), sources, targets, ledgers.rows(made)), tuple(refused)


def enter(path: Path, built: Ledger) -> None:
    """Write the ledger, or renew these kernels' rows in the one that is there.

    Raises UsageError where the other rows are of another compiler or other GPUs."""
    old = ledgers.read(path) if path.exists() else None
    with disk.guarded(path.parent):
        disk.write(path, ledgers.dump(ledgers.merged(old, built)))


def table(built: Ledger) -> list[str]:
    """Which GPUs are of a kind, and a line a kind under each op, dtype and variant."""
    kinds = dict.fromkeys(built.targets.values())
    alike = {k: [name for name, kind in built.targets.items() if kind == k] for k in kinds}
    heads = [f"{kind}: {', '.join(names)}" for kind, names in alike.items()]
    return [*heads, *(line for row in built.rows for line in _lines(row))]


def _lines(row: Row) -> list[str]:
    told = "".join(f", {k} {v}" for k, v in row.baked.items())
    head = f"{row.kernel} {row.dtype}{told}: {row.threads} threads a block"
    return [head, *(f"  {kind:<15} {_words(c)}" for kind, c in row.cells.items())]


def _words(cell: Cell) -> str:
    spills = f"{cell.spill_bytes} bytes spilled" if cell.spill_bytes else "no spills"
    return (
        f"{cell.registers:>3} registers, {spills}, {cell.stack_bytes} bytes of stack, "
        f"{cell.shared_bytes} of shared memory, occupancy {cell.occupancy:.0%}"
    )
