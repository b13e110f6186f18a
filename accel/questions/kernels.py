"""accel kernels list and check: what each kernel is, and whether its source is right.

Nothing here needs a GPU: geometry is called with symbols, and sources run in Numba's simulator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accel import catalog
from accel.cuda import ledger, symbols
from accel.cuda.comparing import excess
from accel.cuda.simulator import Simulator
from accel.protocols import Case
from accel.values import Options

PROCESSES = 2


@dataclass(frozen=True)
class Described:
    """One kernel; its geometry is the first variant's, for one of its cases, with every size but
    the last a symbol."""

    name: str
    op: str
    algebra: str
    dtypes: tuple[str, ...]
    variants: tuple[Options, ...]
    shapes: Mapping[str, tuple[str, ...]]  # input -> "x0", "x1", "384"
    grid: tuple[str, ...]  # blocks: "ceil(x0*x1 / 4)"
    block: tuple[int, ...]  # threads
    scalars: Mapping[str, str]  # its int32 arguments


def describe(name: str) -> Described:
    """Raises UsageError for an unknown kernel, MissingExtra without Numba."""
    member = catalog.load("kernels", name)
    dtype, baked = member.DTYPES[0], member.VARIANTS[0]
    shapes = symbols.shapes(ledger.launched(member, dtype, baked))
    launch = member.launch(shapes, dtype, baked)
    named = zip(member.signature(dtype, baked).scalars, launch.scalars, strict=True)
    return Described(
        name=name,
        op=member.OP,
        algebra=(member.__doc__ or "").partition("\n")[0],
        dtypes=tuple(member.DTYPES),
        variants=tuple(member.VARIANTS),
        shapes={n: tuple(map(str, sizes)) for n, sizes in shapes.items()},
        grid=tuple(map(str, launch.grid)),
        block=tuple(launch.block),
        scalars={n: str(value) for n, value in named},
    )


@dataclass(frozen=True)
class Tried:
    """One case of one dtype, simulated and compared."""

    kernel: str
    dtype: str
    case: str
    right: bool
    excess: float  # the worst error of any output over the allowed: right up to 1
    output: str  # the worst one
    threads: int
    seconds: float
    reason: str = ""  # why it could not be compared


def check(
    kernels: Sequence[str], progress: Callable[[str], None] = lambda _: None
) -> tuple[Tried, ...]:
    """Every dtype and case of these kernels in the simulator, against the float64 reference.

    `progress` hears of each that is done. Raises UsageError for an unknown kernel, MissingExtra
    without Numba."""
    found = []
    asked = list(_cases(kernels))
    with Simulator(PROCESSES) as run:
        started = [(k, d, case, run.start(k, d, case)) for k, d, case in asked]
        for i, (kernel, dtype, case, future) in enumerate(started, 1):
            found.append(_tried(kernel, dtype, case, future))
            progress(f"[{i}/{len(started)}] {kernel} {dtype}, {case.name}")
    return tuple(found)


def _cases(kernels: Sequence[str]) -> Iterator[tuple[str, str, Case]]:
    for kernel in kernels:
        member = catalog.load("kernels", kernel)
        for dtype in member.DTYPES:
            for case in member.cases(dtype):
                yield kernel, dtype, case


def _tried(kernel: str, dtype: str, case: Case, future: Any) -> Tried:
    told = (kernel, dtype, case.name)
    try:
        found = future.result()
    except Exception as error:  # whatever a kernel that is being written raises
        return Tried(*told, False, math.inf, "", 0, 0.0, f"{type(error).__name__}: {error}")
    member = catalog.load("kernels", kernel)
    baked = case.baked or member.VARIANTS[0]
    want = member.reference(case.inputs, baked)
    worst, output = max(
        (excess(found.outputs[name], want[name], member.TOLERANCE[kind]), name)
        for name, kind in member.signature(dtype, baked).outputs
    )
    return Tried(*told, worst <= 1, worst, output, found.threads, found.seconds)
