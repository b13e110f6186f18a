"""PTX run on the CPU, instruction by instruction: what the compiler made, not what it was given.

The simulator runs a kernel's Python, with twins for what only a GPU has; here the same case goes
through the real intrinsics, conversions and tensor-core instructions as they were compiled. Registers
are bits. Threads run on their own and meet at shuffles, tensor cores and barriers. It knows the
instructions that kernels use, and refuses others; a misaligned access, or one outside of the arrays,
is an error. About half a million instructions a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accel.cuda import ptx
from accel.cuda.geometry import WARP
from accel.cuda.interpreter_ops import mma
from accel.cuda.interpreter_thread import Meeting, Program, Thread, parse
from accel.errors import CandidateBroken
from accel.protocols import Case
from accel.values import Feed


def interpret(kernel: str, dtype: str, case: Case, compute_capability: str) -> Feed:
    """Every output of a member of kernels/, by name.

    Raises CandidateBroken for an instruction that is not known here, and for an access that a GPU
    would fault on."""
    import ml_dtypes
    import numpy as np

    from accel import catalog

    member = catalog.load("kernels", kernel)
    baked = member.VARIANTS[0] if case.baked is None else case.baked
    signature = member.signature(dtype, baked)
    shapes = {name: array.shape for name, array in case.inputs.items()}
    sizes, launch = member.output_shapes(shapes, baked), member.launch(shapes, dtype, baked)
    memory, places = bytearray(256), {}
    arrays = {name: case.inputs[name] for name, _ in signature.inputs}
    for name, kind in signature.outputs:
        arrays[name] = np.zeros(sizes[name], ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    for name, array in arrays.items():
        memory += bytes(-len(memory) % 256 + case.offset * array.itemsize)
        places[name] = len(memory)
        memory += np.ascontiguousarray(array).tobytes()
    given = [places[n] for n, _ in signature.inputs] + [int(s) for s in launch.scalars]
    given += [places[n] for n, _ in signature.outputs]
    text = ptx.compile(kernel, dtype, baked, compute_capability).text
    run(parse(text), launch.grid, launch.block, given, memory)
    return {
        name: np.frombuffer(bytes(memory[places[name] :]), arrays[name].dtype, arrays[name].size)
        .reshape(sizes[name])
        .copy()
        for name, _ in signature.outputs
    }


def run(program: Program, grid: Sequence[Any], block: Sequence[int], arguments: Sequence[int], memory: bytearray) -> None:  # fmt: skip
    """Every block, one after another, on `memory`."""
    named = dict(zip(program.parameters, arguments, strict=True))
    for flat in range(int(grid[0]) * int(grid[1])):
        place = {"%ctaid.x": flat % int(grid[0]), "%ctaid.y": flat // int(grid[0])}
        place |= {f"%ntid.{axis}": size for axis, size in zip("xyz", block, strict=True)}
        shared = bytearray(program.shared_bytes)
        threads = [
            Thread(program, memory, shared, place | {"%tid.x": x, "%tid.y": y}, named).run()
            for y in range(block[1])
            for x in range(block[0])
        ]
        warps = [threads[w : w + WARP] for w in range(0, len(threads), WARP)]
        while [True for warp in warps if _until_barrier(warp)]:
            pass


def _until_barrier(warp: list[Meeting]) -> bool:
    """Run a warp to its next barrier; False where it has ended."""
    sent: list[Any] = [None] * len(warp)
    while True:
        found = [_next(lane, value) for lane, value in zip(warp, sent, strict=True)]
        kinds = {f[0] for f in found}
        if kinds == {"shfl"}:
            sent = [found[_source(lane, f)][2] for lane, f in enumerate(found)]
        elif kinds == {"mma"} and len({f[1:3] for f in found}) == 1:
            sent = mma(found[0][1], found[0][2], [f[3] for f in found])
        elif kinds in ({"barrier"}, {"end"}):
            return kinds == {"barrier"}
        else:
            raise CandidateBroken(f"lanes of one warp meet at different places: {sorted(kinds)}")


def _next(lane: Meeting, value: Any) -> tuple[Any, ...]:
    try:
        return lane.send(value)
    except StopIteration:
        return ("end",)


def _source(lane: int, asked: tuple[Any, ...]) -> int:
    """The lane that a shuffle reads; one's own where it lies outside."""
    other = {"bfly": lane ^ asked[3], "up": lane - asked[3], "down": lane + asked[3], "idx": asked[3]}[asked[1]]  # fmt: skip
    return other if 0 <= other < WARP else lane
