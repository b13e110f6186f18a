"""The ledger, kernels/ledger.json: what each kernel costs on each GPU, and from which source.

A row is an op, a dtype and a variant; a cell is what GPUs are compiled for: a compute capability and
a PTX version, which every profile that shares them shares. Threads per block follow from the shapes:
the ledger's are those of the kernel's first case of that variant. The same source and toolchain give
the same bytes, in any order of building.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from accel import catalog, manifest
from accel.cuda import occupancy
from accel.cuda.building import Built, Job
from accel.errors import UsageError
from accel.protocols import Shapes
from accel.values import Options, Target

PATH = catalog.ROOT / "kernels" / "ledger.json"
ALWAYS = ("accel.cuda.ptx",)  # what every kernel's code goes through
OURS = ("accel.kernels", "accel.cuda")
ABOUT = "What each kernel costs on each GPU. Written by `make ledger`; see accel/cuda/ledger.py."
REMEDY = "Run `make ledger` and look at what changed."


@dataclass(frozen=True)
class Cell:
    """One kernel on GPUs of one kind."""

    registers: int  # per thread
    spill_bytes: int
    stack_bytes: int  # per thread
    shared_bytes: int  # static, per block
    occupancy: float  # of the warps that a multiprocessor has places for; four decimals
    ptx_sha256: str  # its first 16 hexadecimal digits


@dataclass(frozen=True)
class Row:
    """One op, dtype and variant."""

    kernel: str
    dtype: str
    baked: Options
    threads: int  # of a block
    cells: Mapping[str, Cell]  # by what it is compiled for: see `label`


@dataclass(frozen=True)
class Ledger:
    """All rows, and what they depend on."""

    toolchain: Mapping[str, str]
    sources: Mapping[str, str]  # kernel -> digest of its source and of what that imports of ours
    targets: Mapping[str, str]  # profile -> "sm_87, PTX 8.5"
    rows: tuple[Row, ...]


def cell(job: Job, built: Built, threads: int) -> Cell:
    """What the assembler said, and the occupancy that follows with the profile's limits."""
    usage, gpu = built.usage, job.target
    share = occupancy.occupancy(
        usage.registers, threads, usage.shared_bytes, gpu.sm, str(gpu.compute_capability)
    )
    digest = hashlib.sha256(built.ptx.text.encode()).hexdigest()[:16]
    costs = (usage.registers, usage.spill_bytes, usage.stack_bytes, usage.shared_bytes)
    return Cell(*costs, round(share, 4), digest)


def rows(built: Iterable[tuple[Job, Built]]) -> tuple[Row, ...]:
    """Jobs of one op, dtype and variant become one row."""
    found: dict[tuple[str, str, int], Row] = {}
    for job, made in built:
        key = (job.kernel, job.dtype, job.variant)
        row = found.get(key) or Row(*key[:2], job.baked, threads(job), {})
        cells = {**row.cells, label(job.target): cell(job, made, row.threads)}
        found[key] = Row(row.kernel, row.dtype, row.baked, row.threads, cells)
    return tuple(found.values())


def threads(job: Job) -> int:
    """Of a block, launched for the shapes of `launched`."""
    member = catalog.load("kernels", job.kernel)
    shapes = launched(member, job.dtype, job.baked)
    return math.prod(member.launch(shapes, job.dtype, job.baked).block)


def launched(member: Any, dtype: str, baked: Options) -> Shapes:
    """Of the first case of this variant, or else of the first that the variant takes."""
    cases = list(member.cases(dtype))
    own = [c for c in cases if (c.baked or member.VARIANTS[0]) == baked]
    for case in (*own, *cases):
        shapes = {name: array.shape for name, array in case.inputs.items()}
        try:
            member.launch(shapes, dtype, baked)
        except UsageError:
            continue
        return shapes
    raise UsageError(f"{member.OP}: no case of {dtype} can be launched with {dict(baked)}.")


def source_digest(kernel: str) -> str:
    """Of the kernel's file, and of every module of kernels/ and accel/cuda that it imports."""
    total = hashlib.sha256()
    for module in sorted(_closure(f"accel.kernels.{kernel}")):
        total.update(module.encode() + _file(module).read_bytes())
    return total.hexdigest()[:16]


def _closure(start: str) -> set[str]:
    found: set[str] = set()
    left = [start, *ALWAYS]
    while left:
        module = left.pop()
        if module not in found:
            found.add(module)
            left += _imports(_file(module))
    return found


def _imports(path: Path) -> Iterator[str]:
    """Modules of ours: `from accel.kernels._device import get`, `from accel.cuda import warps`."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (n for n in names if n.startswith(OURS) and _file(n).is_file())


def _file(module: str) -> Path:
    return catalog.ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")


def label(gpu: Target) -> str:
    """What a kernel is compiled for there: "sm_87, PTX 8.5"."""
    return f"sm_{str(gpu.compute_capability).replace('.', '')}, PTX {gpu.ptx_version}"


def kinds(gpus: Iterable[Target]) -> tuple[Target, ...]:
    """The first GPU of each kind: limits follow from the capability, so the others cost the same."""
    found: dict[str, Target] = {}
    for gpu in gpus:
        found.setdefault(label(gpu), gpu)
    return tuple(found.values())


def stale(
    found: Ledger, toolchain: Mapping[str, str], kernels: Sequence[str], targets: Sequence[Target]
) -> tuple[str, ...]:
    """Kernels whose rows may not hold any more: another source, compiler or set of kinds of GPU."""
    kinds_now = {label(gpu) for gpu in targets}
    if found.toolchain != dict(toolchain) or set(found.targets.values()) != kinds_now:
        return tuple(kernels)
    return tuple(k for k in kernels if found.sources.get(k) != source_digest(k))


def merged(old: Ledger | None, new: Ledger) -> Ledger:
    """The new rows, and those of other kernels that were not built again and are still there.

    Raises UsageError where those were built by another compiler, or for other GPUs."""
    known = set(catalog.names("kernels"))
    others = () if old is None else old.rows
    kept = [r for r in others if r.kernel in known and r.kernel not in new.sources]
    if old and kept and (old.toolchain, old.targets) != (new.toolchain, new.targets):
        raise UsageError(
            f"The ledger's other rows ({kept[0].kernel} ...) are of another compiler or of other "
            f"GPUs, so one kernel alone cannot be renewed. Run: make ledger"
        )
    every = sorted((*kept, *new.rows), key=lambda row: row.kernel)
    sources = {**(old.sources if old else {}), **new.sources}
    sources = {k: sources[k] for k in sorted(known & set(sources))}
    return Ledger(new.toolchain, sources, new.targets, tuple(every))


def worse(old: Ledger, new: Iterable[Row]) -> tuple[str, ...]:
    """What costs more than the ledger says: spills, stack, occupancy; and what is not in it."""
    known = {(r.kernel, r.dtype, _text(r.baked)): r for r in old.rows}
    said: list[str] = []
    for row in new:
        what = f"{row.kernel} {row.dtype} {_text(row.baked)}"
        before = known.get((row.kernel, row.dtype, _text(row.baked)))
        for name, now in row.cells.items():
            then = before.cells.get(name) if before else None
            said += _compared(f"{what} on {name}", then, now)
    return tuple(said)


def _compared(what: str, then: Cell | None, now: Cell) -> Iterator[str]:
    if then is None:
        yield f"{what} is not in the ledger"
        return
    for name in ("spill_bytes", "stack_bytes"):
        if getattr(now, name) > getattr(then, name):
            yield f"{what}: {name} {getattr(then, name)} -> {getattr(now, name)}"
    if now.occupancy < then.occupancy:
        yield f"{what}: occupancy {then.occupancy:.0%} -> {now.occupancy:.0%}"


def dump(found: Ledger) -> str:
    """JSON text, a row a line: the same ledger gives the same bytes."""
    body = []
    for row in found.rows:
        cells = {k: [getattr(c, f.name) for f in fields(c)] for k, c in row.cells.items()}
        head = {"kernel": row.kernel, "dtype": row.dtype, "baked": dict(row.baked)}
        body.append(_text({**head, "threads": row.threads, "cells": cells}))
    head = {
        "about": ABOUT,
        "columns": [f.name for f in fields(Cell)],
        "toolchain": dict(found.toolchain),
        "targets": dict(found.targets),
        "sources": dict(found.sources),
    }
    lines = [f'"{key}": {_text(value)},' for key, value in head.items()]
    return "\n".join(["{", *lines, '"rows": [', ",\n".join(body), "]", "}"]) + "\n"


def _text(value: Any) -> str:
    return json.dumps(manifest.dump(value))


def read(path: Path = PATH) -> Ledger:
    """The ledger of a file. Raises UsageError where it is absent or does not read as one."""
    data = manifest.read(path)
    try:
        made = tuple(
            Row(**{**row, "cells": {k: Cell(*c) for k, c in row["cells"].items()}})
            for row in data["rows"]
        )
        return Ledger(data["toolchain"], data["sources"], data["targets"], made)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not a ledger: {error!r}. {REMEDY}") from None
