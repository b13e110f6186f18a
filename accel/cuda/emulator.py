"""Compiled PTX, run on the CPU: what the compiler made of a kernel is tried without a GPU.

The simulator runs a kernel's Python source; it cannot see what Numba, an intrinsic or NVVM did to
it. Here the PTX itself is executed, every thread of the launch at once as numpy vectors. Threads
that part at a branch meet again where the earliest of them catches up. Memory is exact: an access
outside of an array, one that is not aligned, a write to an input, a shuffle with lanes that are
elsewhere, are errors. Races and the order of warps are not modelled.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel import catalog
from accel.cuda import _ptx_text, ptx
from accel.cuda._ptx_lanes import BASE, Lanes
from accel.cuda.geometry import WARP
from accel.cuda.simulator import SENTINEL, Simulated, bits, numpy_dtype
from accel.errors import AccelError, CandidateBroken
from accel.protocols import Case, Launch, Signature

MOST_STEPS = 2_000_000  # basic blocks run before a kernel counts as hung
GAP = 256  # bytes between arrays that belong to nobody


@dataclass(frozen=True)
class Arena:
    """Global memory: bytes, who may touch each, and where each array begins."""

    bytes: Any  # uint8
    rights: Any  # uint8: 0 nobody, 1 readers, 2 readers and writers
    places: Mapping[str, int]  # array -> offset


def run(kernel: str, dtype: str, case: Case, compute_capability: str = "8.7") -> Simulated:
    """One case of a kernel, as compiled for a target, on the CPU.

    Raises CandidateBroken for an illegal access, a divergent shuffle, a kernel that does not end,
    or an instruction that the emulator does not know."""
    member = catalog.load("kernels", kernel)
    baked = member.VARIANTS[0] if case.baked is None else case.baked
    program = _program(kernel, dtype, tuple(sorted(baked.items())), compute_capability)
    signature: Signature = member.signature(dtype, baked)
    shapes = {name: np.shape(array) for name, array in case.inputs.items()}
    sizes = member.output_shapes(shapes, baked)
    start = time.perf_counter()
    arena = _arena(signature, case, sizes)
    launch: Launch = member.launch(shapes, dtype, baked)
    execute(program, launch, arena, signature)
    found = {
        name: _taken(arena, name, sizes[name], numpy_dtype(kind))
        for name, kind in signature.outputs
    }
    threads = math.prod(launch.grid) * math.prod(launch.block)
    return Simulated(found, threads, time.perf_counter() - start)


@functools.cache
def _program(kernel: str, dtype: str, baked: Any, compute_capability: str) -> _ptx_text.Program:
    return _ptx_text.parse(ptx.compile(kernel, dtype, dict(baked), compute_capability).text)


def _arena(signature: Signature, case: Case, sizes: Any) -> Arena:
    """Every array on a 256-byte boundary, then as far past it as the case asks."""
    held: list[tuple[str, Any, int]] = []
    for name, _ in signature.inputs:
        held.append((name, bits(np.ascontiguousarray(case.inputs[name])).ravel(), 1))
    for name, kind in signature.outputs:
        blank = np.full(math.prod(sizes[name]) * numpy_dtype(kind).itemsize, SENTINEL, np.uint8)
        held.append((name, bits(blank.view(numpy_dtype(kind))), 2))
    places, end = {}, GAP
    for name, array, _ in held:
        places[name] = end + case.offset * array.itemsize
        end = -(-(places[name] + array.nbytes + GAP) // GAP) * GAP
    room, rights = np.full(end, SENTINEL, np.uint8), np.zeros(end, np.uint8)
    for name, array, right in held:
        room[places[name] : places[name] + array.nbytes] = array.view(np.uint8)
        rights[places[name] : places[name] + array.nbytes] = right
    return Arena(room, rights, places)


def _taken(arena: Arena, name: str, shape: Any, kind: Any) -> Any:
    start = arena.places[name]
    raw = arena.bytes[start : start + math.prod(shape) * kind.itemsize]
    return raw.copy().view(kind).reshape(shape)


def execute(program: _ptx_text.Program, launch: Launch, arena: Arena, signature: Signature) -> None:
    """Run every thread of the grid to its end; results are in the arena."""
    lanes = _lanes(program, launch, arena, signature)
    ended, waiting = len(program.blocks), np.zeros(lanes.count, np.bool_)
    at = np.zeros(lanes.count, np.int64)  # the basic block that each thread is to run next
    for _ in range(MOST_STEPS):
        runnable = ~waiting & (at < ended)
        if not runnable.any():
            if not waiting.any():
                return
            waiting[:] = False  # every thread that is left has come to the barrier
            continue
        here, active = _next(program, lanes, at, runnable)
        _run_block(program, here, active, lanes, at, waiting)
    raise CandidateBroken(f"the kernel did not end within {MOST_STEPS} steps")


def _next(program: _ptx_text.Program, lanes: Lanes, at: Any, runnable: Any) -> tuple[int, Any]:
    """The earliest basic block that threads can run, and those threads.

    Where lanes must meet, a warp that is not complete waits for its others to come."""
    here = int(at[runnable].min())
    active = np.flatnonzero(runnable & (at == here))
    while here in program.meets:
        present = np.bincount(lanes.warp[active], minlength=len(lanes.in_warp))
        complete = active[(present == lanes.in_warp)[lanes.warp[active]]]
        if len(complete):
            return here, complete
        later = runnable & (at > here)
        if not later.any():
            text = program.blocks[here][0].text
            raise CandidateBroken(f"lanes of a warp never come to: {text}")
        here = int(at[later].min())
        active = np.flatnonzero(runnable & (at == here))
    return here, active


def _run_block(
    program: _ptx_text.Program, here: int, active: Any, lanes: Lanes, at: Any, waiting: Any
) -> None:
    at[active] = here + 1
    for instruction in program.blocks[here]:
        chosen = active[lanes.holds(instruction.guard, active)] if instruction.guard else active
        name = instruction.name[0]
        if name == "bra":
            label = str(instruction.operands[0])
            at[chosen] = program.labels[label]
        elif name in ("ret", "exit"):
            at[chosen] = len(program.blocks)
        elif name == "bar":
            waiting[chosen] = True
        elif len(chosen):
            try:
                lanes.run(instruction, chosen)
            except (AccelError, KeyError, ValueError, TypeError, AttributeError) as error:
                raise CandidateBroken(f"{error}, in: {instruction.text}") from None


def _lanes(program: _ptx_text.Program, launch: Launch, arena: Arena, signature: Signature) -> Lanes:
    width, height, depth = launch.block
    per_block = width * height * depth
    blocks = math.prod(launch.grid)
    thread = np.tile(np.arange(per_block), blocks)
    block = np.repeat(np.arange(blocks), per_block)
    given = {n: BASE + arena.places[n] for n, _ in (*signature.inputs, *signature.outputs)}
    order = [n for n, _ in signature.inputs]
    values = [given[n] for n in order] + list(launch.scalars)
    values += [given[n] for n, _ in signature.outputs]
    gx, gy, _gz = launch.grid
    special = {
        "%tid.x": thread % width,
        "%tid.y": thread // width % height,
        "%tid.z": thread // (width * height),
        "%ctaid.x": block % gx,
        "%ctaid.y": block // gx % gy,
        "%ctaid.z": block // (gx * gy),
        "%laneid": thread % WARP,
        **{f"%ntid.{a}": np.full_like(thread, n) for a, n in zip("xyz", launch.block, strict=True)},
        **{
            f"%nctaid.{a}": np.full_like(thread, n) for a, n in zip("xyz", launch.grid, strict=True)
        },
    }
    return Lanes(
        parameters=dict(zip(program.parameters, values, strict=True)),
        special={k: v.astype(np.uint32) for k, v in special.items()},
        kinds=program.registers,
        arena=arena,
        symbols=program.places,
        shared=np.full((blocks, max(1, program.shared_bytes)), SENTINEL, np.uint8),
        local=np.full((len(block), max(1, program.local_bytes)), SENTINEL, np.uint8),
        block=block,
        thread=thread,
        warp=block * math.ceil(per_block / WARP) + thread // WARP,
    )
