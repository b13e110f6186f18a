"""Kernels on this machine's GPU: their time beside their peers', and beside the bytes they must move.

The floor of a kernel is its `moved_bytes` over the copy bandwidth of the same run. Each load is
checked before it is timed: written over a poisoned output, and compared with a peer where there is
one. Needs torch with CUDA.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from accel import catalog
from accel.cuda import launch, loading, loads, timing, warming
from accel.cuda import machine as gpu
from accel.cuda.loads import Load
from accel.cuda.timing import Timed
from accel.errors import AccelError
from accel.values import Options, Refusal

OWN = "accel"
DEVICE = "cuda"
ROUNDS = {True: 20, False: 50}  # of a large load, of a model's
POISON = 77  # of an integer output before the kernel runs; others are NaN
# A peer rounds where it stores: two right answers differ by this, or in this share of integers.
ALLOWED = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, "int8": 1e-4, "uint8": 1e-4, "int32": 1e-2}  # fmt: skip

Peer = Callable[[Mapping[str, Any], Options], Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """One load of one dtype of a kernel."""

    kernel: str
    dtype: str
    load: str
    large: bool
    moved_bytes: int
    floor_s: float  # moved_bytes over the copy bandwidth
    arms: Mapping[str, Timed]
    difference: float | None  # from the eager peer, as timing.worst has it; None without one
    notes: tuple[str, ...] = ()

    @property
    def of_copy(self) -> float:
        """The kernel's share of the copy bandwidth: 0.0 to about 1.0."""
        return self.floor_s / self.arms[OWN].median_s

    def ratio(self, arm: str) -> float:
        """A peer's time over the kernel's: above 1 the kernel is faster."""
        return self.arms[arm].median_s / self.arms[OWN].median_s


@dataclass(frozen=True)
class Overhead:
    """What starting a kernel costs apart from running it, on its first case, which is tiny."""

    kernel: str
    run_s: float  # of the host, outputs given
    bound_s: float  # of the host, addresses known
    graph_s: float  # a launch of 1,000 in a CUDA graph, its own work included


@dataclass(frozen=True)
class Bench:
    """A run on one GPU."""

    machine: Options
    copy_bytes_per_s: tuple[float, float]  # before the rows, and after
    torch_launch_s: float  # of the host: torch.add(x, x, out=y) on 1,024 values, to compare with
    rows: tuple[Row, ...]
    overheads: tuple[Overhead, ...]
    refused: tuple[Refusal, ...] = ()  # what could not be timed, and why
    clocks_after: Options = field(default_factory=dict)  # right after the rows


def bench(
    kernels: Sequence[str],
    machine: Options,
    peers: Mapping[str, Peer] | None = None,
    uncompiled: Mapping[str, str] | None = None,
    budget_s: float = math.inf,
    progress: Callable[[str], None] = lambda _: None,
) -> Bench:
    """Every dtype and load of these kernels. `peers` are torch functions by the kernel's name, timed
    as they stand and through torch.compile, except those in `uncompiled`, which has the reasons;
    past `budget_s` nothing more is compiled by torch.

    What fails is refused with its reason and the rest goes on. Raises MissingExtra without a GPU."""
    torch.set_float32_matmul_precision("highest")  # float32 means float32: no TF32
    deadline = time.monotonic() + budget_s
    _warm(kernels)
    before = timing.copy_bytes_per_s()
    rows, overheads, refused = [], [], []
    for kernel in kernels:
        try:
            for dtype, load in _loads(kernel):
                progress(f"{kernel} {dtype}, {load.name}")
                compiles = _compiles(kernel, uncompiled or {}, deadline)
                peer = (peers or {}).get(kernel)
                rows.append(row(kernel, dtype, load, before, peer, compiles))
            overheads.append(overhead(kernel))
        except (AccelError, RuntimeError) as error:  # torch's own, out of memory among them
            refused.append(Refusal(kernel, _first(error)))
    copies = (before, timing.copy_bytes_per_s())
    clocks = gpu.clocks()
    return Bench(
        machine,
        copies,
        _torch_launch_s(),
        tuple(rows),
        tuple(overheads),
        tuple(refused),
        clocks,
    )


def row(
    kernel: str,
    dtype: str,
    load: Load,
    bytes_per_s: float,
    peer: Peer | None = None,
    compiles: str = "",
) -> Row:
    """One load, checked and timed. `compiles`: why torch.compile is left out; empty: it is not.

    Raises what `launch.bind` raises."""
    member = catalog.load("kernels", kernel)
    baked = member.VARIANTS[0] if load.baked is None else load.baked
    inputs = load.make(DEVICE)
    shapes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
    outputs = _poisoned(member, shapes, dtype, baked)
    own = launch.bind(kernel, inputs, outputs, baked, dtype=dtype)
    own()
    arms: dict[str, Any] = {OWN: own}
    notes, difference = [], None
    if peer is not None:
        call = functools.partial(peer, inputs, {**baked, "dtype": dtype})
        want = call()
        difference = timing.worst([outputs[n] for n in want], list(want.values()))
        del want
        arms["eager"] = call
        reason = compiles or _compile(arms, peer, inputs, {**baked, "dtype": dtype})
        notes += [f"not compiled: {reason}"] if reason else []
        limit = max(ALLOWED[kind] for kind in _kinds(outputs))
        if not difference <= limit:
            notes.append(f"WRONG: differs from eager by {difference:.2g}, allowed is {limit:g}")
    timed = timing.interleaved(arms, ROUNDS[load.large], cold=not load.large)
    moved = member.moved_bytes(shapes, dtype, baked)
    floor_s = moved / bytes_per_s
    return Row(
        kernel, dtype, load.name, load.large, moved, floor_s, timed, difference, tuple(notes)
    )


def overhead(kernel: str) -> Overhead:
    """On the first case of the kernel's first dtype."""
    member = catalog.load("kernels", kernel)
    dtype = member.DTYPES[0]
    case = next(iter(member.cases(dtype)))
    baked = case.baked or member.VARIANTS[0]
    inputs = {name: torch.from_numpy(array).to(DEVICE) for name, array in case.inputs.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
    outputs = _poisoned(member, shapes, dtype, baked)
    bound = launch.bind(kernel, inputs, outputs, baked, dtype=dtype)

    def run() -> Any:
        return launch.run(kernel, inputs, outputs, baked, dtype=dtype)

    return Overhead(
        kernel,
        timing.host_launch_s(run),
        timing.host_launch_s(bound),
        timing.graph_launch_s(bound),
    )


def _loads(kernel: str) -> list[tuple[str, Load]]:
    """(dtype, load), large ones first; models' for two dtypes, for want of time: the others are as
    wide as one of them."""
    dtypes = catalog.load("kernels", kernel).DTYPES
    found = [(dtype, load) for dtype in dtypes for load in loads.of(kernel, dtype)]
    chosen = [(d, load) for d, load in found if load.large or d in dtypes[:2]]
    return sorted(chosen, key=lambda pair: not pair[1].large)


def _warm(kernels: Sequence[str]) -> None:
    keys = []
    for kernel in kernels:
        member = catalog.load("kernels", kernel)
        case = next(iter(member.cases(member.DTYPES[0])))
        keys.append((kernel, member.DTYPES[0], case.baked or member.VARIANTS[0]))
        keys += [(kernel, d, load.baked or member.VARIANTS[0]) for d, load in _loads(kernel)]
    warming.warm(keys, loading.compute_capability(torch.cuda.current_device()))


def _poisoned(member: Any, shapes: Any, dtype: str, baked: Options) -> dict[str, Any]:
    sizes = member.output_shapes(shapes, baked)
    made = {}
    for name, kind in member.signature(dtype, baked).outputs:
        tensor = torch.empty(sizes[name], dtype=getattr(torch, kind), device=DEVICE)
        made[name] = tensor.fill_(math.nan if tensor.dtype.is_floating_point else POISON)
    return made


def _kinds(outputs: Mapping[str, Any]) -> set[str]:
    return {str(tensor.dtype).removeprefix("torch.") for tensor in outputs.values()}


def _compiles(kernel: str, uncompiled: Mapping[str, str], deadline: float) -> str:
    late = "the bench's time was up" if time.monotonic() > deadline else ""
    return uncompiled.get(kernel, late)


def _compile(arms: dict[str, Any], peer: Peer, inputs: Any, constants: Options) -> str:
    """Add the compiled peer to the arms; why not, where torch cannot."""
    torch._dynamo.reset()  # each load gets code of its own: sizes are constants
    compiled = torch.compile(peer, dynamic=False, fullgraph=True)
    try:
        compiled(inputs, constants)
    except Exception as error:  # whatever a compiler says
        return _first(error)
    arms["compiled"] = functools.partial(compiled, inputs, constants)
    return ""


def _torch_launch_s() -> float:
    x = torch.rand(1024, device=DEVICE)
    y = torch.empty_like(x)
    return timing.host_launch_s(lambda: torch.add(x, x, out=y))


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
